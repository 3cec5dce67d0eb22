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
 * The partitions that the task does not carry for now, each with why and when it is tried again.
 *
 * <p>Each has a note in the bucket, by which `status` knows of it: the task itself
 * runs. A note is written again at each try, and taken away when the partition is carried again.
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
   * Notes that a partition is not carried, and when to try it again.
   *
   * @param whilePut whether its object was not taken: then only one that is stored shows the end
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
    // What the next try gets over, as one busy answer of the store, is nobody's concern.
    if (!first || cause instanceof PartitionTrouble) {
      bucket.note(partition, why, stop.sinceMs);
    }
  }

  boolean has(TopicPartition partition) {
    return stops.containsKey(partition);
  }

  /** Those whose time has come. */
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

  /** Notes that a partition has begun again; returns whether its trouble is over by that. */
  boolean begun(TopicPartition partition) {
    Stop stop = stops.get(partition);
    if (stop != null && stop.whilePut) {
      stop.trying = true;
      return false;
    }
    stops.remove(partition);
    return true;
  }

  /** Notes that objects were stored; returns the partitions whose trouble is over by that. */
  List<TopicPartition> stored(Collection<TopicPartition> partitions) {
    return partitions.stream().filter(partition -> stops.remove(partition) != null).toList();
  }

  /** Leaves a partition to the task that has it now; its note stays until that task removes it. */
  void forget(TopicPartition partition) {
    stops.remove(partition);
  }
}
