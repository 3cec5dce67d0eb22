package dev.headwater.positions;

import io.debezium.connector.postgresql.connection.Lsn;
import io.debezium.connector.postgresql.connection.ReplicationMessage;
import io.debezium.connector.postgresql.connection.ReplicationStream;
import java.sql.SQLException;
import java.util.concurrent.ExecutorService;
import java.util.function.Consumer;

/** A replication stream without the messages that were delivered before a restart. */
final class ResumedStream implements ReplicationStream {

  private final ReplicationStream stream;
  private final Resume resume;
  private final Consumer<ReplicationMessage> leftOut;

  ResumedStream(ReplicationStream stream, Resume resume, Consumer<ReplicationMessage> leftOut) {
    this.stream = stream;
    this.resume = resume;
    this.leftOut = leftOut;
  }

  @Override
  public void read(ReplicationMessageProcessor processor)
      throws SQLException, InterruptedException {
    stream.read(undelivered(processor));
  }

  @Override
  public boolean readPending(ReplicationMessageProcessor processor)
      throws SQLException, InterruptedException {
    return stream.readPending(undelivered(processor));
  }

  private ReplicationMessageProcessor undelivered(ReplicationMessageProcessor processor) {
    return message -> {
      if (resume.delivered(message, stream.lastReceivedLsn())) {
        leftOut.accept(message);
      } else {
        processor.process(message);
      }
    };
  }

  @Override
  public void flushLsn(Lsn lsn) throws SQLException {
    stream.flushLsn(lsn);
  }

  @Override
  public Lsn lastReceivedLsn() {
    return stream.lastReceivedLsn();
  }

  @Override
  public Lsn startLsn() {
    return stream.startLsn();
  }

  @Override
  public void startKeepAlive(ExecutorService service) {
    stream.startKeepAlive(service);
  }

  @Override
  public void stopKeepAlive() {
    stream.stopKeepAlive();
  }

  @Override
  public void close() throws Exception {
    stream.close();
  }
}
