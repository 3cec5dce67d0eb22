package dev.headwater.bronze;

import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.function.Predicate;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.connect.errors.ConnectException;
import org.apache.kafka.connect.errors.RetriableException;
import org.apache.kafka.connect.sink.SinkRecord;
import org.apache.kafka.connect.sink.SinkTask;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Writes records to the bucket, each exactly once.
 *
 * <ol>
 *   <li>A partition begins after its last object in the bucket when the task takes it over.
 *   <li>Lines are collected until they are old, many or large enough; then the object is sealed.
 *   <li>A sealed object is named by its first offset and put only if that name is free. Until it
 *       is known to be stored, the same bytes are put again and nothing else.
 *   <li>If another task has taken the name, the partition begins again at step 1.
 *   <li>A partition that cannot continue is stopped alone, and retried from time to time.
 *   <li>The group's committed offset follows the bucket; it is only a hint, never the truth.
 * </ol>
 */
public final class BronzeSinkTask extends SinkTask {
  private static final Logger LOG = LoggerFactory.getLogger(BronzeSinkTask.class);
  private static final long BACKOFF_MS_MIN = 250;
  private static final long VERIFY_NANOS = TimeUnit.SECONDS.toNanos(1);

  private final Map<TopicPartition, PartitionBuffer> open = new HashMap<>();
  private final Set<TopicPartition> unrecovered = new LinkedHashSet<>();
  private final Set<TopicPartition> paused = new HashSet<>();
  private final LineWriter writer = new LineWriter();
  private BronzeConfig config;
  private Bucket bucket;
  private KafkaLog kafka;
  private Recovery recovery;
  private Stopped stopped;
  private Uploader uploader;
  private GzipLevel gzip;
  private long intervalNanos;
  private long bufferedBytes;
  private long backoffMs = BACKOFF_MS_MIN;
  private long verifiedNanos = System.nanoTime();
  private boolean batchPending;

  @Override
  public void start(Map<String, String> properties) {
    config = new BronzeConfig(properties);
    gzip = new GzipLevel(config.getInt("gzip.level"));
    intervalNanos = TimeUnit.MILLISECONDS.toNanos(config.getInt("flush.interval.ms"));
    bucket = new Bucket(config);
    kafka = new KafkaLog(config, group(properties));
    recovery = new Recovery(config, bucket, kafka);
    stopped = new Stopped(bucket);
    uploader = new Uploader(bucket, config.getInt("put.threads"));
  }

  private static String group(Map<String, String> properties) {
    return properties.getOrDefault(
        "consumer.override.group.id", "connect-" + properties.get("name"));
  }

  @Override
  public void open(Collection<TopicPartition> partitions) {
    unrecovered.addAll(partitions);
    try {
      recover(false);
    } catch (RetriableException away) {
      // An exception here would end the task; put() retries until it succeeds.
      LOG.warn("partitions wait for the store: {}", away.getMessage());
    }
  }

  @Override
  public void close(Collection<TopicPartition> partitions) {
    for (TopicPartition partition : partitions) {
      drop(partition);
      unrecovered.remove(partition);
      stopped.forget(partition);
    }
  }

  @Override
  public void put(Collection<SinkRecord> records) {
    boolean repeated = batchPending;
    if (!repeated) {
      open.values().forEach(PartitionBuffer::beginBatch);
    }
    batchPending = true;
    try {
      unrecovered.addAll(stopped.due());
      recover(true);
      flush(buffer -> buffer.sealed != null);
      take(records, repeated);
      flush(this::isDue);
      verifyQuiet();
    } catch (RetriableException away) {
      context.timeout(backoffMs);
      LOG.warn("trying again in {} ms: {}", backoffMs, away.getMessage());
      backoffMs = Math.min(backoffMs * 2, config.getInt("retry.backoff.ms.max"));
      throw away;
    }
    batchPending = false;
    backoffMs = BACKOFF_MS_MIN;
    resume();
    long now = System.nanoTime();
    open.forEach((p, buffer) -> advance(p, buffer, now));
    context.timeout(nextFlushMs());
  }

  private void take(Collection<SinkRecord> records, boolean repeated) {
    int bytesMax = config.getInt("flush.bytes");
    int recordsMax = config.getInt("flush.records");
    int bufferedMax = config.getInt("buffer.bytes.max");
    long now = System.nanoTime();
    for (SinkRecord record : records) {
      var partition =
          new TopicPartition(record.originalTopic(), record.originalKafkaPartition());
      PartitionBuffer buffer = open.get(partition);
      if (buffer == null && (stopped.has(partition) || unrecovered.contains(partition))) {
        continue;
      }
      if (buffer == null) {
        throw new ConnectException("a record of " + partition + ", which this task does not own");
      }
      if (buffer.rewound) {
        continue;
      }
      if (!repeated && record.originalKafkaOffset() < buffer.read()) {
        // Kafka goes back by itself if the log was cut or the topic was created again.
        LOG.warn("{} goes back to offset {}", partition, record.originalKafkaOffset());
        drop(partition);
        unrecovered.add(partition);
        continue;
      }
      bufferedBytes += buffer.take(record, writer, now);
      if (buffer.bytes() >= bytesMax || buffer.records() >= recordsMax) {
        flush(full -> full.bytes() >= bytesMax || full.records() >= recordsMax);
      } else if (bufferedBytes > bufferedMax) {
        flush(any -> !any.isEmpty());
      }
    }
  }

  /** Seals the buffers that {@code which} chooses, and puts them with those sealed before. */
  private void flush(Predicate<PartitionBuffer> which) {
    Map<TopicPartition, PartitionBuffer> chosen = new HashMap<>();
    open.forEach(
        (p, buffer) -> {
          if (buffer.sealed != null || (!buffer.isEmpty() && which.test(buffer))) {
            chosen.put(p, buffer);
          }
        });
    if (chosen.isEmpty()) {
      return;
    }
    suspend(recovery.verifyJumps(chosen), false);
    chosen.keySet().retainAll(open.keySet());
    for (PartitionBuffer buffer : chosen.values()) {
      if (buffer.sealed == null) {
        bufferedBytes -= buffer.seal(gzip);
      }
    }
    Uploader.Outcome outcome = uploader.put(chosen);
    recovery.requireOwnTrouble(outcome.failed());
    suspend(outcome.failed(), true);
    List<TopicPartition> taken = outcome.taken();
    chosen.keySet().removeAll(outcome.failed().keySet());
    taken.forEach(chosen::remove);
    List<TopicPartition> over = stopped.stored(chosen.keySet());
    if (!over.isEmpty()) {
      bucket.unnote(over);
    }
    if (!taken.isEmpty()) {
      LOG.warn("another task wrote {}: beginning again after its objects", taken);
      taken.forEach(this::drop);
      unrecovered.addAll(taken);
      recover(true);
    }
  }

  /** Once a second, verifies the passed offsets of partitions that have collected no line since. */
  private void verifyQuiet() {
    long now = System.nanoTime();
    if (now - verifiedNanos < VERIFY_NANOS) {
      return;
    }
    verifiedNanos = now;
    Map<TopicPartition, PartitionBuffer> quiet = new HashMap<>(open);
    quiet.values().removeIf(buffer -> !buffer.isEmpty() || buffer.sealed != null);
    suspend(recovery.verifyJumps(quiet), false);
  }

  /** Stops partitions, each for its own reason; the others continue. */
  private void suspend(Map<TopicPartition, RuntimeException> troubles, boolean whilePut) {
    troubles.forEach(
        (partition, cause) -> {
          drop(partition);
          unrecovered.remove(partition);
          stopped.add(partition, cause, whilePut);
          context.pause(partition);
          paused.add(partition);
        });
  }

  /** Resumes the consumer for partitions that continue, but not while a batch has to be put again. */
  private void resume() {
    for (TopicPartition partition : open.keySet()) {
      if (paused.remove(partition)) {
        context.resume(partition);
      }
    }
  }

  private boolean isDue(PartitionBuffer buffer) {
    return buffer.ageNanos(System.nanoTime()) >= intervalNanos;
  }

  /** Milliseconds until the oldest line is due; the framework calls put() again by then. */
  private long nextFlushMs() {
    long now = System.nanoTime();
    long wait = intervalNanos;
    for (PartitionBuffer buffer : open.values()) {
      if (!buffer.isEmpty()) {
        wait = Math.min(wait, intervalNanos - buffer.ageNanos(now));
      }
    }
    return Math.max(1, TimeUnit.NANOSECONDS.toMillis(wait));
  }

  /**
   * Seeks each new partition to its offset.
*
   * @param midBatch whether records read before the seek may still be in the batch; they are left
   *     out
   */
  private void recover(boolean midBatch) {
    if (unrecovered.isEmpty()) {
      return;
    }
    Recovery.Begun begun = recovery.begin(new ArrayList<>(unrecovered));
    suspend(begun.failed(), false);
    List<TopicPartition> over = new ArrayList<>();
    for (var found : begun.buffers().entrySet()) {
      TopicPartition partition = found.getKey();
      found.getValue().rewound = midBatch;
      open.put(partition, found.getValue());
      context.offset(partition, found.getValue().stored());
      PositionInterceptor.forget(partition);
      unrecovered.remove(partition);
      if (stopped.begun(partition)) {
        over.add(partition);
      }
    }
    if (!over.isEmpty()) {
      bucket.unnote(over); // removes the notes of an earlier task, too
    }
  }

  private void drop(TopicPartition partition) {
    PartitionBuffer buffer = open.remove(partition);
    if (buffer != null) {
      bufferedBytes -= buffer.bytes();
    }
  }

  private void advance(TopicPartition partition, PartitionBuffer buffer, long now) {
    if (buffer.rewound) {
      return;
    }
    buffer.advance(PositionInterceptor.position(partition));
    long place = buffer.passedMarkers(now);
    if (place >= 0) {
      // The framework commits no offset beyond the last record, unless the task seeks there.
      context.offset(partition, place);
    }
  }

  @Override
  public Map<TopicPartition, OffsetAndMetadata> preCommit(
      Map<TopicPartition, OffsetAndMetadata> ignored) {
    Map<TopicPartition, OffsetAndMetadata> stored = new HashMap<>();
    open.forEach((p, buffer) -> stored.put(p, recovery.commit(buffer)));
    return stored;
  }

  @Override
  public void stop() {
    for (AutoCloseable part : new AutoCloseable[] {uploader, bucket, kafka}) {
      try {
        if (part != null) {
          part.close();
        }
      } catch (Exception ignored) {
        LOG.warn("could not close {}", part, ignored);
      }
    }
  }

  @Override
  public String version() {
    return BronzeConfig.VERSION;
  }
}
