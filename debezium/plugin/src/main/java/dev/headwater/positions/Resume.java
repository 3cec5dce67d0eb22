package dev.headwater.positions;

import static dev.headwater.positions.Position.Kind.BEGIN;

import io.debezium.connector.postgresql.connection.Lsn;
import io.debezium.connector.postgresql.connection.ReplicationMessage;
import io.debezium.connector.postgresql.connection.ReplicationMessage.Operation;
import java.util.HashMap;
import java.util.Map;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Finds the exact place where the stream continues after a restart; replaces Debezium's locator.
 *
 * <p>The server sends transactions in the order of their commits. It is asked to begin at the end
 * of the last transaction that was delivered whole. It then first sends the transaction that was in
 * progress, from its start. The messages of that one up to the last delivered log position are left
 * out, because positions only grow within a transaction. WalPositionLocator compares positions of
 * different transactions, which are in no order, and may be equal at the end of a commit.
 */
final class Resume {

  private static final Logger LOG = LoggerFactory.getLogger(Resume.class);

  private static final String TRANSACTION = "transaction_"; // its id and its counts

  private final Position last;
  private final boolean whole;
  private final Lsn start;
  private boolean inside;
  private boolean done;

  private Resume(Position last, boolean whole, Lsn start) {
    this.last = last;
    this.whole = whole;
    this.start = start;
  }

  /** Resumes after this stored offset; null if Debezium finds the place itself: after a snapshot. */
  static Resume after(Map<String, ?> offset) {
    Position last = Position.of(offset);
    if (last == null || offset.get("snapshot") != null) {
      return null;
    }
    Object committed = offset.get(Position.COMMIT_LSN);
    long start = committed instanceof Number lsn ? lsn.longValue() : last.lsn();
    // The stock connector, which separates a position's records, wrote an offset with a count: the
    // last position comes again.
    return new Resume(last, !offset.containsKey(Positions.COUNT), Lsn.valueOf(start));
  }

  /**
   * Returns the offset without the fields that make Debezium search for the place itself, or treat
   * a transaction as open after its END: a message outside of transactions would end it again.
   */
  Map<String, Object> unsearched(Map<String, ?> offset) {
    Map<String, Object> left = new HashMap<>(offset);
    left.remove("lsn_proc");
    left.remove(Positions.COUNT);
    if (last.transaction() == null) {
      left.keySet().removeIf(key -> key.startsWith(TRANSACTION));
    }
    return left;
  }

  /** The position at which the server is asked to begin. */
  Lsn start() {
    return start;
  }

  /** Whether this message was delivered before the restart; called for each message, in order. */
  boolean delivered(ReplicationMessage message, Lsn lsn) {
    if (done || isAside(message)) {
      return false;
    }
    boolean delivered =
        switch (message.getOperation()) {
          case BEGIN -> begins(message);
          case COMMIT -> false;
          default -> inside ? isPassed(lsn.asLong()) : isBefore(lsn.asLong());
        };
    if (!delivered) {
      done = true;
      LOG.info("continuing at {} {}, after {}", message.getOperation(), lsn, last);
    }
    return delivered;
  }

  /** Such a message is never delivered; Debezium needs a transaction's origin again. */
  private static boolean isAside(ReplicationMessage message) {
    return message.getOperation() == Operation.ORIGIN || message.getOperation() == Operation.NOOP;
  }

  private boolean begins(ReplicationMessage message) {
    long transaction = message.getTransactionId().orElse(-1);
    inside = last.transaction() != null && last.transaction() == transaction;
    if (!inside && last.transaction() != null) {
      LOG.warn(
          "transaction {} comes first, not {}, which was in progress: nothing is left out",
          transaction,
          last.transaction());
    }
    return inside;
  }

  private boolean isPassed(long lsn) {
    int order = Long.compareUnsigned(lsn, last.lsn());
    return last.kind() != BEGIN && (whole ? order <= 0 : order < 0);
  }

  /** Messages outside of transactions came before the transaction that was in progress. */
  private boolean isBefore(long lsn) {
    return last.transaction() != null || Long.compareUnsigned(lsn, last.lsn()) <= 0;
  }
}
