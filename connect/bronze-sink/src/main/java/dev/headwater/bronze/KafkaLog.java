package dev.headwater.bronze;

import java.util.Collection;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.function.Function;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.connect.errors.ConnectException;
import org.apache.kafka.connect.errors.RetriableException;

/** What Kafka still holds of each partition, and what the sink's group has committed. */
final class KafkaLog implements AutoCloseable {
  /** Offsets [start, end); topicId changes when a topic is deleted and made again. */
  record Extent(long start, long end, String topicId, OffsetAndMetadata committed) {}

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

  /** The extents of {@code partitions}, in four requests whatever their number. */
  Map<TopicPartition, Extent> extents(Collection<TopicPartition> partitions) {
    Set<String> topics =
        partitions.stream().map(TopicPartition::topic).collect(Collectors.toSet());
    var committed = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata();
    var described = admin.describeTopics(topics).allTopicNames();
    var starts = offsets(partitions, OffsetSpec.earliest());
    var ends = offsets(partitions, OffsetSpec.latest());
    return partitions.stream()
        .collect(
            Collectors.toMap(
                Function.identity(),
                p ->
                    new Extent(
                        get(starts).get(p).offset(),
                        get(ends).get(p).offset(),
                        get(described).get(p.topic()).topicId().toString(),
                        get(committed).get(p))));
  }

  /** The first offset that Kafka still holds, by partition. */
  Map<TopicPartition, Long> starts(Collection<TopicPartition> partitions) {
    return get(offsets(partitions, OffsetSpec.earliest())).entrySet().stream()
        .collect(Collectors.toMap(Map.Entry::getKey, e -> e.getValue().offset()));
  }

  private KafkaFuture<Map<TopicPartition, ListOffsetsResultInfo>> offsets(
      Collection<TopicPartition> partitions, OffsetSpec which) {
    return admin
        .listOffsets(partitions.stream().collect(Collectors.toMap(p -> p, p -> which)))
        .all();
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
