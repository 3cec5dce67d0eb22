package dev.headwater.bronze;

import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.kafka.clients.consumer.ConsumerInterceptor;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;

/**
 * Tells the sink task how far its consumer has read, markers and aborted records included.
 *
 * <p>A sink task sees only records. The last record of a quiet partition is followed by a
 * transaction marker; once retention removes both, that one offset would look like a lost event.
 * It does not if the consumer's own position is committed. The consumer runs on the task's thread,
 * so the position read there belongs to the records that were, or are being, put.
 */
public final class PositionInterceptor implements ConsumerInterceptor<byte[], byte[]> {
  private static final ThreadLocal<Map<TopicPartition, Long>> POSITIONS =
      ThreadLocal.withInitial(ConcurrentHashMap::new);

  /** The position of the consumer that polls on this thread, or -1 if it has not read yet. */
  static long position(TopicPartition partition) {
    return POSITIONS.get().getOrDefault(partition, -1L);
  }

  /** Forgets the positions of partitions that are taken over, or read again from an earlier place. */
  static void forget(TopicPartition partition) {
    POSITIONS.get().remove(partition);
  }

  @Override
  public ConsumerRecords<byte[], byte[]> onConsume(ConsumerRecords<byte[], byte[]> records) {
    records.nextOffsets().forEach((partition, next) -> POSITIONS.get().put(partition, next.offset()));
    return records;
  }

  @Override
  public void onCommit(Map<TopicPartition, OffsetAndMetadata> offsets) {}

  @Override
  public void configure(Map<String, ?> configs) {}

  @Override
  public void close() {
    POSITIONS.remove();
  }
}
