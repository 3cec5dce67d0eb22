package dev.headwater.bronze;

import org.apache.kafka.connect.errors.ConnectException;

/** A failure that stops one partition and does not concern any other. */
final class PartitionTrouble extends ConnectException {
  PartitionTrouble(String what) {
    super(what);
  }

  PartitionTrouble(String what, Throwable cause) {
    super(what, cause);
  }
}
