package dev.headwater.positions;

import io.debezium.connector.postgresql.connection.ReplicationMessage.Operation;
import java.util.Map;

/**
 * A place in the stream, as Debezium's source offsets name it.
 *
 * @param kind the kind of message at that place
 * @param transaction the transaction's id; null outside of transactions
 * @param lsn the log position of the last message, as an unsigned number of bytes
 */
record Position(Kind kind, Long transaction, long lsn) {

  static final String LSN = "lsn";
  static final String COMMIT_LSN = "lsn_commit";

  enum Kind {
    /** The first message of a transaction: it often has the log position of the first change. */
    BEGIN,
    /** A change of a row, a TRUNCATE, or a message inside a transaction. */
    CHANGE,
    /** A message outside of transactions (pg_logical_emit_message). */
    MESSAGE,
    /** The last message of a transaction. Its log position may be the next transaction's first. */
    COMMIT
  }

  /** Returns the place that an offset names; null if it names no place in the stream. */
  static Position of(Map<String, ?> offset) {
    Object type = offset.get("messageType");
    if (type == null || !(offset.get(LSN) instanceof Number lsn)) {
      return null;
    }
    Kind kind =
        switch (Operation.valueOf(type.toString())) {
          case BEGIN -> Kind.BEGIN;
          case COMMIT -> Kind.COMMIT;
          case MESSAGE -> isCommitted(lsn, offset) ? Kind.MESSAGE : Kind.CHANGE;
          default -> Kind.CHANGE;
        };
    boolean inside = kind == Kind.BEGIN || kind == Kind.CHANGE;
    Long transaction = inside && offset.get("txId") instanceof Number id ? id.longValue() : null;
    return new Position(kind, transaction, lsn.longValue());
  }

  private static boolean isCommitted(Number lsn, Map<String, ?> offset) {
    return offset.get(COMMIT_LSN) instanceof Number commit && commit.longValue() == lsn.longValue();
  }

  /** Whether only one record has this position. */
  boolean isSingle() {
    return kind != Kind.CHANGE;
  }
}
