package dev.headwater.positions;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.source.SourceRecord;

/**
 * Passes polled records on in their order, so that those of one source position pass together.
 *
 * <p>DELETE, tombstone and CREATE of a key change have one log position, and so have the rows of a
 * page that COPY wrote and the tables of a TRUNCATE. The last records polled wait until a record
 * with another position, or a snapshot's row, shows that their position is complete. After the last
 * change of a transaction that record is its END, which the server sends at once. At most the rows
 * of one WAL record wait: one row, or the rows that COPY collects before it writes (64 KiB of input
 * and a row).
 *
 * <p>Heartbeats, notifications and rows of snapshots that run beside the stream do not belong to a
 * position: their offset becomes the last complete position. Debezium gives them its own last
 * position, whose records may still be missing: the rows of an incremental snapshot come before the
 * signal that caused them, with that signal's position.
 */
final class Positions {

  /** Debezium's count of events at one position; a whole position does not need it. */
  static final String COUNT = "lsn_events_processed";

  private static final String SNAPSHOT = "snapshot";
  private static final String BLOCKING = "BLOCKING";
  private static final String INCREMENTAL = "incremental_snapshot_";

  private final List<SourceRecord> waiting = new ArrayList<>();
  private Position current;
  private Map<String, ?> reached;

  /** Begins again after a stored offset; null if none names a place in the stream. */
  synchronized void restart(Map<String, ?> stored) {
    waiting.clear();
    current = null;
    reached = stored;
  }

  /** Returns the records that may pass once these were polled; the rest waits for the next call. */
  synchronized List<SourceRecord> complete(List<SourceRecord> polled) {
    List<SourceRecord> passing = new ArrayList<>(polled.size() + waiting.size());
    for (SourceRecord record : polled) {
      add(record, passing);
    }
    return passing;
  }

  private void add(SourceRecord record, List<SourceRecord> passing) {
    Position position = Position.of(record.sourceOffset());
    boolean other = position != null && !position.equals(current);
    if (!waiting.isEmpty() && (other || isSnapshotted(record))) {
      pass(passing);
    }
    if (isStreamed(record) && position != null) {
      waiting.add(record);
      current = position;
      if (position.isSingle()) {
        pass(passing);
      }
    } else if (waiting.isEmpty()) {
      passing.add(atReached(record));
    } else {
      waiting.add(record);
    }
  }

  private void pass(List<SourceRecord> passing) {
    for (SourceRecord record : waiting) {
      if (isStreamed(record)) {
        record.sourceOffset().remove(COUNT);
        reached = record.sourceOffset();
      }
    }
    for (SourceRecord record : waiting) {
      passing.add(isStreamed(record) ? record : atReached(record));
    }
    waiting.clear();
    current = null;
  }

  /** The record with the last complete position, and its own progress of a snapshot. */
  private SourceRecord atReached(SourceRecord record) {
    Map<String, ?> own = record.sourceOffset();
    Object snapshot = own.get(SNAPSHOT);
    if ("INITIAL".equals(snapshot)) {
      reached = null; // nothing was streamed before the first snapshot
    }
    if (reached == null || own.isEmpty()) {
      return record;
    }
    Map<String, Object> offset = new HashMap<>(reached);
    if (!BLOCKING.equals(snapshot)) { // its offsets lack the progress of an incremental one
      offset.keySet().removeIf(key -> key.startsWith(INCREMENTAL));
      own.forEach((key, value) -> putIncremental(offset, key, value));
    }
    return new SourceRecord(
        record.sourcePartition(),
        offset,
        record.topic(),
        record.kafkaPartition(),
        record.keySchema(),
        record.key(),
        record.valueSchema(),
        record.value(),
        record.timestamp(),
        record.headers());
  }

  private static void putIncremental(Map<String, Object> offset, String key, Object value) {
    if (key.startsWith(INCREMENTAL)) {
      offset.put(key, value);
    }
  }

  /** Whether the record comes from the log: a change, its tombstone, a transaction's border. */
  private static boolean isStreamed(SourceRecord record) {
    if (!(record.value() instanceof Struct value)) {
      return record.value() == null;
    }
    Schema schema = value.schema();
    return schema.field("op") == null
        ? schema.field("event_count") != null
        : !"r".equals(value.getString("op"));
  }

  /** Whether a snapshot made it, which Debezium begins between two messages of the log. */
  private static boolean isSnapshotted(SourceRecord record) {
    return BLOCKING.equals(record.sourceOffset().get(SNAPSHOT))
        || record.value() instanceof Struct value
            && value.schema().field("op") != null
            && "r".equals(value.getString("op"));
  }
}
