package dev.headwater.positions;

import io.debezium.connector.postgresql.connection.Lsn;
import io.debezium.connector.postgresql.connection.ReplicationConnection;
import io.debezium.connector.postgresql.connection.ReplicationMessage;
import io.debezium.connector.postgresql.connection.ReplicationStream;
import io.debezium.connector.postgresql.connection.WalPositionLocator;
import io.debezium.connector.postgresql.spi.SlotCreationResult;
import java.sql.SQLException;
import java.util.Optional;
import java.util.function.Consumer;

/** A replication connection whose stream continues at the place that a {@link Resume} names. */
final class ResumedConnection implements ReplicationConnection {

  private final ReplicationConnection connection;
  private final Resume resume;
  private final Consumer<ReplicationMessage> leftOut;

  ResumedConnection(
      ReplicationConnection connection, Resume resume, Consumer<ReplicationMessage> leftOut) {
    this.connection = connection;
    this.resume = resume;
    this.leftOut = leftOut;
  }

  @Override
  public ReplicationStream startStreaming(Lsn lsn, WalPositionLocator locator)
      throws SQLException, InterruptedException {
    return new ResumedStream(connection.startStreaming(resume.start(), locator), resume, leftOut);
  }

  @Override
  public ReplicationStream startStreaming(WalPositionLocator locator)
      throws SQLException, InterruptedException {
    return connection.startStreaming(locator);
  }

  @Override
  public Optional<SlotCreationResult> createReplicationSlot() throws SQLException {
    return connection.createReplicationSlot();
  }

  @Override
  public void initConnection() throws SQLException, InterruptedException {
    connection.initConnection();
  }

  @Override
  public boolean isConnected() throws SQLException {
    return connection.isConnected();
  }

  @Override
  public void reconnect() throws SQLException {
    connection.reconnect();
  }

  @Override
  public void close() throws Exception {
    connection.close();
  }
}
