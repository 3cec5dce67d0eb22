package dev.headwater.bronze;

import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.connect.errors.ConnectException;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Decides where a partition begins, and refuses to begin behind events that were lost. */
final class Recovery {
  private static final Logger LOG = LoggerFactory.getLogger(Recovery.class);

  private final Bucket bucket;
  private final KafkaLog kafka;
  private final String place;
  private final boolean skipGaps;
  private boolean probed;

  Recovery(BronzeConfig config, Bucket bucket, KafkaLog kafka) {
    this.bucket = bucket;
    this.kafka = kafka;
    this.place = config.getString("bucket");
    this.skipGaps = config.getString("on.gap").equals("skip");
  }

  /** An empty buffer for each of {@code partitions}, standing after what the bucket holds. */
  Map<TopicPartition, PartitionBuffer> begin(Collection<TopicPartition> partitions) {
    if (!probed) {
      bucket.requireConditionalPuts();
      probed = true;
    }
    // The bucket first: what another task still writes meanwhile must not seem to lie beyond
    // Kafka's end. Its objects make the next put find the name taken, and begin again.
    Map<TopicPartition, Bucket.Last> lasts = new HashMap<>();
    for (TopicPartition partition : partitions) {
      lasts.put(partition, bucket.last(prefix(partition)));
    }
    Map<TopicPartition, PartitionBuffer> begun = new HashMap<>();
    kafka
        .extents(partitions)
        .forEach(
            (partition, extent) -> {
              long next = next(partition, lasts.get(partition), extent);
              begun.put(
                  partition, new PartitionBuffer(prefix(partition), extent.topicId(), next));
            });
    return begun;
  }

  private static String prefix(TopicPartition partition) {
    return partition.topic() + "/partition=" + partition.partition() + "/";
  }

  private long next(TopicPartition partition, Bucket.Last last, KafkaLog.Extent extent) {
    long next = last == null ? 0 : last.offset() + 1;
    if (last != null) {
      requireSameTopic(partition, last, extent);
    }
    // Committed by us for this bucket and topic: what lies before it is stored, or was no record.
    OffsetAndMetadata committed = extent.committed();
    if (committed != null && committed.metadata().equals(mark(extent.topicId()))) {
      next = Math.max(next, committed.offset());
    }
    if (extent.start() > next) {
      lost(partition, next, extent.start());
      next = extent.start();
    }
    LOG.info("{} begins at offset {}", partition, next);
    return next;
  }

  private static void requireSameTopic(
      TopicPartition partition, Bucket.Last last, KafkaLog.Extent extent) {
    boolean other = !last.topicId().isEmpty() && !last.topicId().equals(extent.topicId());
    if (other || last.offset() >= extent.end()) {
      throw new ConnectException(
          "the topic " + partition.topic() + " is not the one that bronze holds: bronze ends at "
              + partition + " offset " + last.offset() + " (" + last.key() + ", topic id "
              + last.topicId() + "), Kafka's log ends before offset " + extent.end()
              + " (topic id " + extent.topicId() + ")\nhint: the topic was made again or Kafka's"
              + " data was lost; capture under another topic prefix or into another bucket, so"
              + " that old and new events stay apart");
    }
  }

  /**
   * Fails where Kafka dropped events between those taken and those that follow.
   *
   * <p>A jump in the offsets is most often a transaction marker. It is a loss only if the log now
   * begins after the offset that was expected: one question to Kafka for all the partitions.
   */
  void requireNoGap(Map<TopicPartition, PartitionBuffer> buffers) {
    List<TopicPartition> jumped =
        buffers.keySet().stream().filter(p -> buffers.get(p).jumpFrom() >= 0).toList();
    if (jumped.isEmpty()) {
      return;
    }
    kafka
        .starts(jumped)
        .forEach(
            (partition, start) -> {
              long expected = buffers.get(partition).jumpFrom();
              if (start > expected) {
                lost(partition, expected, start);
              }
            });
  }

  private void lost(TopicPartition partition, long from, long to) {
    String what =
        "Kafka no longer holds offsets " + from + " to " + (to - 1) + " of " + partition
            + ", and bronze does not hold them";
    if (skipGaps) {
      LOG.error("{}; going on without them (on.gap=skip)", what);
      return;
    }
    throw new ConnectException(
        what + "\nhint: the sink was behind for longer than Kafka's retention. If the events can"
            + " be had nowhere else, set on.gap=skip once and take a new snapshot of the table");
  }

  /** What is committed for a partition: the offset, marked with the bucket and topic it is of. */
  OffsetAndMetadata commit(PartitionBuffer buffer) {
    return new OffsetAndMetadata(buffer.stored(), mark(buffer.topicId));
  }

  private String mark(String topicId) {
    return place + "/" + topicId;
  }
}
