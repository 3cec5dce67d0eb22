package dev.headwater.positions;

import io.debezium.config.Configuration;
import io.debezium.connector.postgresql.PostgresConnectorConfig;
import io.debezium.connector.postgresql.PostgresConnectorTask;
import io.debezium.connector.postgresql.PostgresOffsetContext;
import io.debezium.connector.postgresql.PostgresPartition;
import io.debezium.connector.postgresql.PostgresSchema;
import io.debezium.connector.postgresql.connection.PostgresConnection;
import io.debezium.connector.postgresql.connection.ReplicationConnection;
import io.debezium.pipeline.ChangeEventSourceCoordinator;
import io.debezium.pipeline.spi.OffsetContext;
import io.debezium.pipeline.spi.Offsets;
import io.debezium.pipeline.spi.Partition;
import java.sql.SQLException;
import java.util.List;
import java.util.Map;
import org.apache.kafka.connect.source.SourceRecord;

/**
 * Debezium's Postgres task, extended so that after any restart it gives each event exactly once.
 *
 * <p>Kafka Connect makes each poll one Kafka transaction. Each poll ends with a whole position
 * ({@link Positions}), and a start leaves out exactly the delivered events ({@link Resume}). The
 * stored offsets are Debezium's own. The events that a start leaves out are counted, too
 * ({@link Counts}), so that END records count the events in the log, not those that were sent.
 */
public final class WholePositionsTask extends PostgresConnectorTask {

  private final Positions positions = new Positions();
  private final Counts counts = new Counts();
  private volatile Resume resume;
  private OpenTransactions transactions;

  @Override
  public List<SourceRecord> doPoll() throws InterruptedException {
    if (transactions != null) {
      if (transactions.hang()) {
        return List.of(); // records sent now would become part of them
      }
      forgetTransactions();
    }
    return positions.complete(counts.counted(super.doPoll()));
  }

  @Override
  public ChangeEventSourceCoordinator<PostgresPartition, PostgresOffsetContext> start(
      Configuration config) {
    forgetTransactions();
    transactions = OpenTransactions.of(config);
    return super.start(config);
  }

  @Override
  protected void doStop() {
    forgetTransactions();
    super.doStop();
  }

  private synchronized void forgetTransactions() {
    if (transactions != null) {
      transactions.close();
      transactions = null;
    }
  }

  /** Called by each start, also by those that Debezium makes itself after a retriable error. */
  @Override
  protected Offsets<PostgresPartition, PostgresOffsetContext> getSinglePartitionPreviousOffsets(
      Partition.Provider<PostgresPartition> partitions,
      OffsetContext.Loader<PostgresOffsetContext> loader) {
    resume = null;
    positions.restart(null);
    counts.restart();
    return super.getSinglePartitionPreviousOffsets(partitions, stored -> load(stored, loader));
  }

  private PostgresOffsetContext load(
      Map<String, ?> stored, OffsetContext.Loader<PostgresOffsetContext> loader) {
    resume = Resume.after(stored);
    if (resume == null) {
      return loader.load(stored);
    }
    positions.restart(stored);
    return loader.load(resume.unsearched(stored));
  }

  @Override
  protected ReplicationConnection buildReplicationConnection(
      PostgresConnection connection, PostgresSchema schema, PostgresConnectorConfig config)
      throws SQLException {
    ReplicationConnection made = super.buildReplicationConnection(connection, schema, config);
    if (resume == null) {
      return made;
    }
    return new ResumedConnection(
        made, resume, message -> counts.leftOut(message, schema, connection, config));
  }
}
