package dev.headwater.spark;

import java.util.Map;
import java.util.Optional;
import org.apache.spark.sql.connector.read.InputPartition;
import org.apache.spark.sql.connector.read.PartitionReaderFactory;
import org.apache.spark.sql.connector.read.streaming.MicroBatchStream;
import org.apache.spark.sql.connector.read.streaming.Offset;
import org.apache.spark.sql.connector.read.streaming.ReadLimit;
import org.apache.spark.sql.connector.read.streaming.ReportsSourceMetrics;
import org.apache.spark.sql.connector.read.streaming.SupportsAdmissionControl;

/**
 * A stream of Spark's Kafka source that waits, if it has nothing new, until Kafka has an event.
 *
 * <p>Spark asks for the newest offsets, pauses ({@code pollingDelay}) and asks again. Each question
 * is three requests to the broker. The wait is a request each 100 ms, and ends with the first event.
 * Spark asks again after it, so that a batch's times do not include it. A new partition is found by
 * a question, at most {@link Arrivals#WAIT} later.
 */
final class WaitingStream
    implements MicroBatchStream, SupportsAdmissionControl, ReportsSourceMetrics {
  // First it does not wait, so that whoever looks at the query's status sees that it needs no batch.
  private static final long FIRST_NS = 1_000_000_000L;

  private final MicroBatchStream stream;
  private final Arrivals arrivals;
  private long firstAnswer;

  WaitingStream(MicroBatchStream stream, Arrivals arrivals) {
    this.stream = stream;
    this.arrivals = arrivals;
  }

  @Override
  public Offset latestOffset(Offset start, ReadLimit limit) {
    Offset end = ((SupportsAdmissionControl) stream).latestOffset(start, limit);
    firstAnswer = firstAnswer == 0 ? System.nanoTime() : firstAnswer;
    if (end != null && end.equals(start) && System.nanoTime() - firstAnswer > FIRST_NS) {
      arrivals.await(start.json());
    }
    return end;
  }

  @Override
  public Offset latestOffset() {
    return stream.latestOffset();
  }

  @Override
  public ReadLimit getDefaultReadLimit() {
    return ((SupportsAdmissionControl) stream).getDefaultReadLimit();
  }

  @Override
  public Offset reportLatestOffset() {
    return ((SupportsAdmissionControl) stream).reportLatestOffset();
  }

  @Override
  public Map<String, String> metrics(Optional<Offset> consumed) {
    return ((ReportsSourceMetrics) stream).metrics(consumed);
  }

  @Override
  public Offset initialOffset() {
    return stream.initialOffset();
  }

  @Override
  public Offset deserializeOffset(String json) {
    return stream.deserializeOffset(json);
  }

  @Override
  public InputPartition[] planInputPartitions(Offset start, Offset end) {
    return stream.planInputPartitions(start, end);
  }

  @Override
  public PartitionReaderFactory createReaderFactory() {
    return stream.createReaderFactory();
  }

  @Override
  public void commit(Offset end) {
    stream.commit(end);
  }

  @Override
  public void stop() {
    arrivals.close();
    stream.stop();
  }

  @Override
  public String toString() {
    return stream.toString();
  }
}
