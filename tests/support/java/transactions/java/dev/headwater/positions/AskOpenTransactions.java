package dev.headwater.positions;

import io.debezium.config.Configuration;
import java.io.FileInputStream;
import java.util.Properties;

/**
 * Asks as a source's task does before its first records: prints `open` at each look that finds a
 * transaction open, and `none` at the one that finds none; then it ends.
 */
public final class AskOpenTransactions {

  private AskOpenTransactions() {}

  /** The argument is the file of the task's configuration. */
  public static void main(String[] args) throws Exception {
    Properties properties = new Properties();
    try (FileInputStream in = new FileInputStream(args[0])) {
      properties.load(in);
    }
    try (OpenTransactions transactions = OpenTransactions.of(Configuration.from(properties))) {
      while (transactions.hang()) {
        System.out.println("open");
      }
      System.out.println("none");
    }
  }
}
