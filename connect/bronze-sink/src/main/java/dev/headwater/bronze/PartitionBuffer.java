package dev.headwater.bronze;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.concurrent.TimeUnit;
import java.util.zip.GZIPOutputStream;
import org.apache.kafka.connect.sink.SinkRecord;

/**
 * One partition's records on their way to the bucket: collected lines, then one sealed object.
 *
 * <p>Lines are collected uncompressed: an open compressor costs 256 KB, and there may be
 * hundreds of quiet partitions.
 */
final class PartitionBuffer {
  private static final int KEEP_BYTES = 64 << 10;
  private static final long QUIET_NANOS = TimeUnit.SECONDS.toNanos(10);

  final String prefix;
  final String topicId;

  /** Set when the consumer was sent back: the rest of the current batch must not be taken. */
  boolean rewound;

  /** An object that may not be stored yet: it is put again unchanged before anything else. */
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

  /** What the sealed object says of the offsets that it lacks; null if it proves nothing. */
  private Proof sealedProof;

  /**
   * An empty buffer.
   *
   * @param next the offset to read from; no offset from {@code kept} up to it had a record
   * @param kept the offset after the last record in the bucket
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

  /** Takes a record unless it was taken before; returns by how many bytes the buffer grew. */
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

  /** Notes the consumer's {@code position}: offsets before it that gave no record have none. */
  void advance(long position) {
    jumpTo(position);
    next = Math.max(next, position);
  }

  private void jumpTo(long offset) {
    if (offset > next && jumpFrom < 0) {
      jumpFrom = next;
    }
  }

  /** Notes that Kafka dropped none of the skipped offsets before they were read. */
  void jumpsVerified() {
    jumpFrom = -1;
  }

  /** Marks the skipped offsets as unproven: they may have been records. */
  void jumpsUnknown() {
    jumpFrom = -1;
    unproven = true;
  }

  /**
   * Notes that Kafka dropped the offsets {@code from} to {@code to} before they were read. One span
   * holds all that were dropped; it may hold records that are in the bucket, too.
   */
  void lost(long from, long to) {
    jumpFrom = -1;
    lostFrom = lostFrom < 0 ? from : Math.min(lostFrom, from);
    lostTo = Math.max(lostTo, to);
  }

  /**
   * The position to which the consumer of a quiet partition is sent if it has passed markers since
   * its last record, else -1. It is at that position already, but only a seek lets it be committed.
   */
  long passedMarkers(long nowNanos) {
    boolean quiet = records == 0 && sealed == null && nowNanos - takenNanos > QUIET_NANOS;
    if (!quiet || next == stored || jumpFrom >= 0) {
      return -1;
    }
    sentTo = next;
    return sentTo;
  }

  /** Notes that the current batch was read after the consumer's seek. */
  void beginBatch() {
    rewound = false;
    stored = Math.max(stored, sentTo);
  }

  /** Compresses the collected lines into the object to be put; returns the bytes freed. */
  int seal(GzipLevel gzip) {
    int size = lines.size();
    var body = new ByteArrayOutputStream(Math.max(512, size / 8));
    try (GZIPOutputStream out = gzip.open(body)) {
      lines.writeTo(out);
    } catch (IOException impossible) {
      throw new UncheckedIOException("memory does not fail to write", impossible);
    }
    sealedProof = unproven ? null : new Proof(readFrom, lostFrom, lostTo);
    byte[] object = sealedProof == null ? body.toByteArray() : sealedProof.in(body);
    sealed = SealedObject.of(prefix, object, first, last, records, topicId);
    readFrom = last + 1;
    lostFrom = -1;
    lostTo = -1;
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

  /** The offset after the last record or marker that was read. */
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

  /**
   * What is known of the offsets from the bucket's last record to {@link #stored}. Until the sealed
   * object is stored, that is what it says: the next task may have to say it again.
   */
  Mark mark(String place) {
    if (sealed == null) {
      return new Mark(place, topicId, unproven ? -1 : kept, lostFrom, lostTo);
    }
    return sealedProof == null
        ? new Mark(place, topicId, -1, -1, -1)
        : new Mark(place, topicId, kept, sealedProof.lostFrom(), sealedProof.lostTo());
  }

  /** The first offset that was passed without a record and is not verified yet, or -1. */
  long jumpFrom() {
    return jumpFrom;
  }
}
