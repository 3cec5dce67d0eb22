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
  private long kept;
  private long readFrom;
  private long lostFrom = -1;
  private long lostTo = -1;
  private boolean unproven;

  /**
   * An empty buffer.
   *
   * @param next the offset to read from; none from {@code kept} up to it is known to be a record
   * @param kept the offset behind the last one that the bucket holds
   */
  PartitionBuffer(String prefix, String topicId, long next, long kept) {
    this.prefix = prefix;
    this.topicId = topicId;
    this.next = next;
    this.kept = kept;
    this.readFrom = kept;
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
    jumpTo(offset);
    records++;
    takenNanos = nowNanos;
    last = offset;
    next = offset + 1;
    return lines.size() - before;
  }

  /** Notes that the consumer stands at {@code position}: it was given no record before that. */
  void advance(long position) {
    jumpTo(position);
    next = Math.max(next, position);
  }

  private void jumpTo(long offset) {
    if (offset > next && jumpFrom < 0) {
      jumpFrom = next;
    }
  }

  /** Notes that Kafka still has, or never dropped unread, what was jumped over so far. */
  void jumpsVerified() {
    jumpFrom = -1;
  }

  /** Marks the skipped offsets as unproven: they may have been records. */
  void jumpsUnknown() {
    jumpFrom = -1;
    unproven = true;
  }

  /** Notes that Kafka dropped the offsets {@code from} to {@code to} before they were read. */
  void lost(long from, long to) {
    jumpFrom = -1;
    lostFrom = lostFrom < 0 ? from : lostFrom;
    lostTo = to;
  }

  /**
   * Where to send the consumer of a quiet partition that has passed markers since its last
   * record, else -1. It stands there already; being sent there lets that place be committed.
   */
  long passedMarkers(long nowNanos) {
    boolean quiet = records == 0 && sealed == null && nowNanos - takenNanos > QUIET_NANOS;
    if (!quiet || next == stored || jumpFrom >= 0) {
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
    byte[] object =
        unproven ? body.toByteArray() : new Proof(readFrom, lostFrom, lostTo).in(body);
    sealed = SealedObject.of(prefix, object, first, last, records, topicId);
    readFrom = last + 1;
    lostFrom = -1;
    unproven = false;
    records = 0;
    lines.reset();
    if (size > KEEP_BYTES) {
      lines = new ByteArrayOutputStream(1024);
    }
    return size;
  }

  /** Notes that the sealed object is in the bucket. */
  void settled() {
    stored = sealed.last() + 1;
    kept = stored;
    sealed = null;
  }

  /** The offset behind the last record or marker that was read. */
  long read() {
    return next;
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

  /** What is known of the offsets from behind the bucket's last record to {@link #stored}. */
  Mark mark(String place) {
    return new Mark(place, topicId, unproven ? -1 : kept, lostFrom, lostTo);
  }

  /** The first offset that was passed without a record and not verified yet, or -1. */
  long jumpFrom() {
    return jumpFrom;
  }
}
