package dev.headwater.bronze;

import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListOffsetsOptions;
import org.apache.kafka.clients.admin.ListOffsetsResult;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.connect.errors.ConnectException;
import org.apache.kafka.connect.errors.RetriableException;

/** Reads which offsets Kafka still has of each partition, and which the group has committed. */
final class KafkaLog implements AutoCloseable {
  /** Offsets [start, end); topicId changes when a topic is deleted and made again. */
  record Extent(long start, long end, String topicId, OffsetAndMetadata committed) {}

  private static final int OFFSETS_MS_MAX = 10_000;

  private final Admin admin;
  private final String group;

  KafkaLog(BronzeConfig config, String group) {
    Map<String, Object> properties = new HashMap<>(config.kafka());
    properties.putIfAbsent("client.id", "bronze-sink-" + group);
    properties.putIfAbsent("default.api.timeout.ms", "30000");
    properties.putIfAbsent("request.timeout.ms", "15000");
    this.admin = Admin.create(properties);
    this.group = group;
  }

  /** The extents of those of {@code partitions} that Kafka has, in four requests for all. */
  Map<TopicPartition, Extent> extents(Collection<TopicPartition> partitions) {
    Map<String, String> ids = topicIds(partitions);
    List<TopicPartition> known =
        partitions.stream().filter(p -> ids.containsKey(p.topic())).toList();
    var committed = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata();
    var starts = offsets(known, OffsetSpec.earliest()).all();
    var ends = offsets(known, OffsetSpec.latest()).all();
    Map<TopicPartition, Extent> extents = new HashMap<>();
    for (TopicPartition partition : known) {
      extents.put(
          partition,
          new Extent(
              get(starts).get(partition).offset(),
              get(ends).get(partition).offset(),
              ids.get(partition.topic()),
              get(committed).get(partition)));
    }
    return extents;
  }

  /** Topic ids by name, of those topics that Kafka has. */
  private Map<String, String> topicIds(Collection<TopicPartition> partitions) {
    Set<String> topics =
        partitions.stream().map(TopicPartition::topic).collect(Collectors.toSet());
    Map<String, String> ids = new HashMap<>();
    admin
        .describeTopics(topics)
        .topicNameValues()
        .forEach(
            (topic, answer) -> {
              try {
                ids.put(topic, get(answer).topicId().toString());
              } catch (RetriableException failed) {
                if (!(failed.getCause() instanceof UnknownTopicOrPartitionException)) {
                  throw failed;
                }
              }
            });
    return ids;
  }

  /** The first offset that Kafka still has of each partition; without those that Kafka lacks. */
  Map<TopicPartition, Long> starts(Collection<TopicPartition> partitions) {
    var starts = offsets(partitions, OffsetSpec.earliest());
    Map<TopicPartition, Long> found = new HashMap<>();
    Map<String, String> ids = null;
    for (TopicPartition partition : partitions) {
      try {
        found.put(partition, get(starts.partitionResult(partition)).offset());
      } catch (RetriableException failed) {
        // The client looks for a deleted topic until its time-out.
        ids = ids == null ? topicIds(partitions) : ids;
        if (ids.containsKey(partition.topic())) {
          throw failed;
        }
      }
    }
    return found;
  }

  private ListOffsetsResult offsets(Collection<TopicPartition> partitions, OffsetSpec which) {
    return admin.listOffsets(
        partitions.stream().collect(Collectors.toMap(p -> p, p -> which)),
        new ListOffsetsOptions().timeoutMs(OFFSETS_MS_MAX));
  }

  private static <T> T get(KafkaFuture<T> answer) {
    try {
      return answer.get();
    } catch (ExecutionException failed) {
      Throwable cause = failed.getCause();
      String what = "could not ask Kafka where the topics begin and end: " + cause.getMessage();
      if (cause instanceof org.apache.kafka.common.errors.RetriableException) {
        throw new RetriableException(what, cause);
      }
      throw new ConnectException(what + "\nhint: check kafka.bootstrap.servers", cause);
    } catch (InterruptedException stopped) {
      Thread.currentThread().interrupt();
      throw new RetriableException("interrupted while asking Kafka", stopped);
    }
  }

  @Override
  public void close() {
    admin.close(java.time.Duration.ofSeconds(5));
  }
}
