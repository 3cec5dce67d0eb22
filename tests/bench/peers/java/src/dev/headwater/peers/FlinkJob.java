package dev.headwater.peers;

import java.io.BufferedReader;
import java.io.StringReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.StatementSet;
import org.apache.flink.table.api.TableEnvironment;

/**
 * Runs one Flink SQL job in this JVM, until it ends: `FlinkJob OPTIONS STATEMENTS`.
 *
 * <p>OPTIONS is a properties file with Flink's configuration. STATEMENTS holds SQL statements, each ended by a line
 * `;`. All INSERTs run as one job.
 */
public final class FlinkJob {
  private FlinkJob() {}

  public static void main(String[] arguments) throws Exception {
    Properties options = new Properties();
    try (var text = Files.newBufferedReader(Path.of(arguments[0]))) {
      options.load(text);
    }
    Configuration configuration = new Configuration();
    options.forEach((name, value) -> configuration.setString((String) name, (String) value));
    TableEnvironment tables =
        TableEnvironment.create(
            EnvironmentSettings.newInstance()
                .inStreamingMode()
                .withConfiguration(configuration)
                .build());
    StatementSet inserts = tables.createStatementSet();
    StringBuilder statement = new StringBuilder();
    var lines = new BufferedReader(new StringReader(Files.readString(Path.of(arguments[1]))));
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      if (!line.equals(";")) {
        statement.append(line).append('\n');
      } else if (statement.toString().startsWith("INSERT")) {
        inserts.addInsertSql(statement.toString());
        statement.setLength(0);
      } else {
        tables.executeSql(statement.toString());
        statement.setLength(0);
      }
    }
    inserts.execute().await();
  }
}
