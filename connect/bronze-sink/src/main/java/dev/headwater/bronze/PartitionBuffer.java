package dev.headwater.bronze;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.concurrent.TimeUnit;
import java.util.zip.GZIPOutputStream;
import org.apache.kafka.connect.sink.SinkRecord;

/**
 * One partition on its way to the bucket: lines that gather, then one sealed object at a time.
 *
 * <p>Lines gather uncompressed: a compressor costs 256 KB while it is open, and there may be
 * hundreds of quiet partitions.
 */
final class PartitionBuffer {
  private static final int KEEP_BYTES = 64 << 10;
  private static final long QUIET_NANOS = TimeUnit.SECONDS.toNanos(10);

  final String prefix;
  final String topicId;

  /** Set when the consumer was sent back: what is left of the batch at hand must not be taken. */
  boolean rewound;

  /** Sealed but not known to be stored: to be put again, as it is, before anything else. */
  SealedObject sealed;

  private ByteArrayOutputStream lines = new ByteArrayOutputStream(1024);
  private int records;
  private long first;
  private long last;
  private long openedNanos;
  private long takenNanos;
  private long next;
  private long stored;
  private long sentTo = -1;
  private long jumpFrom = -1;

  PartitionBuffer(String prefix, String topicId, long next) {
    this.prefix = prefix;
    this.topicId = topicId;
    this.next = next;
    this.stored = next;
    this.takenNanos = System.nanoTime();
  }

  /** Takes a record unless it was taken before; returns how many bytes the buffer grew by. */
  int take(SinkRecord record, LineWriter writer, long nowNanos) {
    long offset = record.originalKafkaOffset();
    if (offset < next) {
      return 0;
    }
    int before = lines.size();
    writer.write(record, lines);
    if (records == 0) {
      first = offset;
      openedNanos = nowNanos;
    }
    if (offset > next && jumpFrom < 0) {
      jumpFrom = next;
    }
    records++;
    takenNanos = nowNanos;
    last = offset;
    next = offset + 1;
    return lines.size() - before;
  }

  /** Notes that the consumer stands at {@code position}: what lies before it was no record. */
  void advance(long position) {
    next = Math.max(next, position);
  }

  /**
   * Where to send the consumer of a quiet partition that has passed markers since its last
   * record, else -1. It stands there already; being sent there lets that place be committed.
   */
  long passedMarkers(long nowNanos) {
    boolean quiet = records == 0 && sealed == null && nowNanos - takenNanos > QUIET_NANOS;
    if (!quiet || next == stored) {
      return -1;
    }
    sentTo = next;
    return sentTo;
  }

  /** Notes that the batch at hand was read after the consumer went where it was sent. */
  void beginBatch() {
    rewound = false;
    stored = Math.max(stored, sentTo);
  }

  /** Compresses what has gathered into the object to be put; returns the bytes given free. */
  int seal(GzipLevel gzip) {
    int size = lines.size();
    var body = new ByteArrayOutputStream(Math.max(512, size / 8));
    try (GZIPOutputStream out = gzip.open(body)) {
      lines.writeTo(out);
    } catch (IOException impossible) {
      throw new UncheckedIOException("memory does not fail to write", impossible);
    }
    sealed = SealedObject.of(prefix, body.toByteArray(), first, last, records, topicId);
    records = 0;
    jumpFrom = -1;
    lines.reset();
    if (size > KEEP_BYTES) {
      lines = new ByteArrayOutputStream(1024);
    }
    return size;
  }

  /** Notes that the sealed object is in the bucket. */
  void settled() {
    stored = sealed.last() + 1;
    sealed = null;
  }

  boolean isEmpty() {
    return records == 0;
  }

  int records() {
    return records;
  }

  int bytes() {
    return lines.size();
  }

  long ageNanos(long nowNanos) {
    return nowNanos - openedNanos;
  }

  /** The offset that a restart would begin at: everything before it is in the bucket. */
  long stored() {
    return stored;
  }

  /** The first offset that was expected and did not come in what has gathered, or -1. */
  long jumpFrom() {
    return jumpFrom;
  }
}
