package dev.headwater.bronze;

import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Decides where a partition begins, and refuses to begin after events that were lost. */
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

  /** The offset at which each partition starts, and the reason for each that cannot start. */
  record Begun(
      Map<TopicPartition, PartitionBuffer> buffers, Map<TopicPartition, RuntimeException> failed) {}

  /** Returns an empty buffer for each partition, positioned after the bucket's last record. */
  Begun begin(Collection<TopicPartition> partitions) {
    if (!probed) {
      bucket.requireConditionalPuts();
      probed = true;
    }
    var begun = new Begun(new HashMap<>(), new HashMap<>());
    // The bucket is read first: objects that another task writes meanwhile must not seem to lie
    // beyond Kafka's end. They make the next put find the name taken, and begin again.
    Map<TopicPartition, Bucket.Last> lasts = new HashMap<>();
    for (TopicPartition partition : partitions) {
      try {
        lasts.put(partition, bucket.last(prefix(partition)));
      } catch (RuntimeException failed) {
        begun.failed.put(partition, failed);
      }
    }
    requireOwnTrouble(begun.failed);
    Map<TopicPartition, KafkaLog.Extent> extents = kafka.extents(lasts.keySet());
    lasts.forEach(
        (partition, last) -> {
          try {
            begun.buffers.put(partition, buffer(partition, last, extents.get(partition)));
          } catch (PartitionTrouble trouble) {
            begun.failed.put(partition, trouble);
          }
        });
    return begun;
  }

  /**
   * Returns if the failures concern only these partitions and not the store.
*
   * @throws RuntimeException the first of {@code failed}, if the store accepts no object at all
   */
  void requireOwnTrouble(Map<TopicPartition, RuntimeException> failed) {
    for (RuntimeException failure : failed.values()) {
      if (!(failure instanceof PartitionTrouble)) {
        if (!bucket.answers()) {
          throw failure;
        }
        return;
      }
    }
  }

  private static String prefix(TopicPartition partition) {
    return partition.topic() + "/partition=" + partition.partition() + "/";
  }

  private PartitionBuffer buffer(
      TopicPartition partition, Bucket.Last last, KafkaLog.Extent extent) {
    if (extent == null) {
      throw new PartitionTrouble("Kafka has no topic " + partition.topic());
    }
    if (last != null) {
      requireSameTopic(partition, last, extent);
    }
    long kept = last == null ? 0 : last.offset() + 1;
    long next = kept;
    Mark mark = null;
    if (extent.start() > kept) {
      // We committed it for this bucket and topic: each offset before it is stored, or had no
      // record.
      mark = mark(extent);
      next = mark == null ? kept : Math.max(kept, extent.committed().offset());
    }
    boolean gap = extent.start() > next;
    if (gap) {
      lost(partition, next, extent.start());
    }
    var buffer =
        new PartitionBuffer(
            prefix(partition), extent.topicId(), Math.max(next, extent.start()), kept);
    if (mark != null && mark.kept() != kept) {
      buffer.jumpsUnknown(); // an older version wrote it, or the bucket's last object is gone since
    }
    if (mark != null && mark.lostFrom() >= 0) {
      buffer.lost(mark.lostFrom(), mark.lostTo());
    }
    if (gap) {
      buffer.lost(next, extent.start() - 1);
    }
    LOG.info("{} begins at offset {}", partition, buffer.stored());
    return buffer;
  }

  /** The mark of the committed offset; null if it is not for this bucket and topic. */
  private Mark mark(KafkaLog.Extent extent) {
    Mark mark = extent.committed() == null ? null : Mark.of(extent.committed().metadata());
    boolean ours =
        mark != null && mark.bucket().equals(place) && mark.topicId().equals(extent.topicId());
    return ours ? mark : null;
  }

  private static void requireSameTopic(
      TopicPartition partition, Bucket.Last last, KafkaLog.Extent extent) {
    boolean other = !last.topicId().isEmpty() && !last.topicId().equals(extent.topicId());
    if (other || last.offset() >= extent.end()) {
      throw new PartitionTrouble(
          "the topic " + partition.topic() + " is not the one that bronze holds: bronze ends at "
              + partition + " offset " + last.offset() + " (" + last.key() + ", topic id "
              + last.topicId() + "), Kafka's log ends before offset " + extent.end()
              + " (topic id " + extent.topicId() + ")\nhint: the topic was made again or Kafka's"
              + " data was lost; capture under another topic prefix or into another bucket, so"
              + " that old and new events stay apart");
    }
  }

  /**
   * Verifies the offsets without a record that {@code buffers} have passed.
   *
   * <p>Such an offset is usually a transaction marker. It may be a loss only if the log now begins
   * after the expected offset, which one request to Kafka shows for all partitions.
   *
   * @return the partitions whose events Kafka dropped before they were read, unless these events
   *     are skipped
   */
  Map<TopicPartition, RuntimeException> verifyJumps(Map<TopicPartition, PartitionBuffer> buffers) {
    List<TopicPartition> jumped =
        buffers.keySet().stream().filter(p -> buffers.get(p).jumpFrom() >= 0).toList();
    Map<TopicPartition, RuntimeException> troubles = new HashMap<>();
    if (jumped.isEmpty()) {
      return troubles;
    }
    Map<TopicPartition, Long> starts = kafka.starts(jumped);
    for (TopicPartition partition : jumped) {
      PartitionBuffer buffer = buffers.get(partition);
      Long start = starts.get(partition);
      long expected = buffer.jumpFrom();
      if (start == null) {
        buffer.jumpsUnknown(); // the topic was deleted; the records read before are still stored
      } else if (start <= expected) {
        buffer.jumpsVerified();
      } else {
        try {
          lost(partition, expected, start);
          buffer.lost(expected, start - 1);
        } catch (PartitionTrouble trouble) {
          troubles.put(partition, trouble);
        }
      }
    }
    return troubles;
  }

  private void lost(TopicPartition partition, long from, long to) {
    String what =
        "Kafka no longer holds offsets " + from + " to " + (to - 1) + " of " + partition
            + ", and bronze does not hold them";
    if (skipGaps) {
      LOG.error("{}; continuing without them (on.gap=skip)", what);
      return;
    }
    throw new PartitionTrouble(
        what + "\nhint: the sink was behind for longer than Kafka's retention. If no other copy of"
            + " the events exists, set on.gap=skip once, then `headwater resync` the table");
  }

  /** What is committed for a partition: the offset and its mark. */
  OffsetAndMetadata commit(PartitionBuffer buffer) {
    return new OffsetAndMetadata(buffer.stored(), buffer.mark(place).toString());
  }
}
