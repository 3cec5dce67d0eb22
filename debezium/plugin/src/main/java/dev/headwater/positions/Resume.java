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
 * Where the stream goes on after a restart, exactly: in place of Debezium's WalPositionLocator.
 *
 * <p>The server sends transactions in the order of their commits. Asked to begin at the end of the
 * last one that was delivered whole, it sends first the one that was under way, from its start; of
 * that one the messages up to the last delivered log position are left out, for within a
 * transaction these only grow. The locator compares log positions of different transactions, among
 * which they neither grow nor, at the end of a commit, differ.
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

  /** After this stored offset; null where Debezium finds its way itself: after a snapshot. */
  static Resume after(Map<String, ?> offset) {
    Position last = Position.of(offset);
    if (last == null || offset.get("snapshot") != null) {
      return null;
    }
    Object committed = offset.get(Position.COMMIT_LSN);
    long start = committed instanceof Number lsn ? lsn.longValue() : last.lsn();
    // With a count the stock connector wrote it, which parts positions: the last one comes again.
    return new Resume(last, !offset.containsKey(Positions.COUNT), Lsn.valueOf(start));
  }

  /**
   * The offset without what makes Debezium search for the place itself, or take the transaction that
   * its END record ended for one under way: a message outside of transactions would end it again.
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

  /** Where the server is asked to begin. */
  Lsn start() {
    return start;
  }

  /** Whether this message was delivered before the restart; asked of each, in their order. */
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
      LOG.info("going on at {} {}, after {}", message.getOperation(), lsn, last);
    }
    return delivered;
  }

  /** Nothing of it is delivered; where a transaction came from is needed again. */
  private static boolean isAside(ReplicationMessage message) {
    return message.getOperation() == Operation.ORIGIN || message.getOperation() == Operation.NOOP;
  }

  private boolean begins(ReplicationMessage message) {
    long transaction = message.getTransactionId().orElse(-1);
    inside = last.transaction() != null && last.transaction() == transaction;
    if (!inside && last.transaction() != null) {
      LOG.warn(
          "transaction {} comes first, not {}, which was under way: nothing is left out",
          transaction,
          last.transaction());
    }
    return inside;
  }

  private boolean isPassed(long lsn) {
    int order = Long.compareUnsigned(lsn, last.lsn());
    return last.kind() != BEGIN && (whole ? order <= 0 : order < 0);
  }

  /** Messages outside of transactions came before the one that was under way. */
  private boolean isBefore(long lsn) {
    return last.transaction() != null || Long.compareUnsigned(lsn, last.lsn()) <= 0;
  }
}
