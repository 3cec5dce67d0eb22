package dev.headwater.bronze;

import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.common.TopicPartition;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The partitions that the task has stopped, each with the reason and the time of the next try.
*
 * <p>The task itself keeps running, so each stopped partition has a note in the bucket, which
 * `status` reads. A note is written again at each try, and removed when the partition continues.
 */
final class Stopped {
  private static final Logger LOG = LoggerFactory.getLogger(Stopped.class);
  private static final long AGAIN_MS_MIN = 1_000;
  private static final long AGAIN_MS_MAX = 30_000;

  private static final class Stop {
    final long sinceMs = System.currentTimeMillis();
    String why = "";
    long waitMs = AGAIN_MS_MIN;
    long againNanos;
    boolean whilePut;
    boolean trying;
  }

  private final Map<TopicPartition, Stop> stops = new HashMap<>();
  private final Bucket bucket;

  Stopped(Bucket bucket) {
    this.bucket = bucket;
  }

  /**
   * Notes that a partition is stopped, and when to try it again.
   *
   * @param whilePut whether a put of its object failed: then only a stored object ends the trouble
   */
  void add(TopicPartition partition, RuntimeException cause, boolean whilePut) {
    boolean first = !stops.containsKey(partition);
    Stop stop = stops.computeIfAbsent(partition, p -> new Stop());
    String why = cause.getMessage();
    if (!why.equals(stop.why)) {
      LOG.error("{} is not kept in bronze for now; the other partitions are: {}", partition, why);
    }
    stop.why = why;
    stop.whilePut = whilePut;
    stop.trying = false;
    stop.waitMs = first ? AGAIN_MS_MIN : Math.min(stop.waitMs * 2, AGAIN_MS_MAX);
    stop.againNanos = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(stop.waitMs);
    // A failure that the next try overcomes, such as one busy answer of the store, is not noted.
    if (!first || cause instanceof PartitionTrouble) {
      bucket.note(partition, why, stop.sinceMs);
    }
  }

  boolean has(TopicPartition partition) {
    return stops.containsKey(partition);
  }

  /** The partitions whose next try is due. */
  List<TopicPartition> due() {
    long now = System.nanoTime();
    List<TopicPartition> due = new ArrayList<>();
    stops.forEach(
        (partition, stop) -> {
          if (!stop.trying && stop.againNanos - now <= 0) {
            due.add(partition);
          }
        });
    return due;
  }

  /** Notes that a partition has begun again; returns whether that ends its trouble. */
  boolean begun(TopicPartition partition) {
    Stop stop = stops.get(partition);
    if (stop != null && stop.whilePut) {
      stop.trying = true;
      return false;
    }
    stops.remove(partition);
    return true;
  }

  /** Notes that objects were stored; returns the partitions whose trouble that ends. */
  List<TopicPartition> stored(Collection<TopicPartition> partitions) {
    return partitions.stream().filter(partition -> stops.remove(partition) != null).toList();
  }

  /** Leaves a partition to the task that has it now; its note stays until that task removes it. */
  void forget(TopicPartition partition) {
    stops.remove(partition);
  }
}
