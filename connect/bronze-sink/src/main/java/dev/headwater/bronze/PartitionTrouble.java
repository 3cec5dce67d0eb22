package dev.headwater.bronze;

import org.apache.kafka.connect.errors.ConnectException;

/** What keeps one partition from being carried, and says nothing about any other. */
final class PartitionTrouble extends ConnectException {
  PartitionTrouble(String what) {
    super(what);
  }

  PartitionTrouble(String what, Throwable cause) {
    super(what, cause);
  }
}
