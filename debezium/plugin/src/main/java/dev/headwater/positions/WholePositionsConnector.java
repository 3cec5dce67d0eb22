package dev.headwater.positions;

import io.debezium.connector.postgresql.PostgresConnector;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.connect.connector.Task;

/** Debezium's Postgres connector, with a task that never separates records of one position. */
public final class WholePositionsConnector extends PostgresConnector {

  @Override
  public Class<? extends Task> taskClass() {
    return WholePositionsTask.class;
  }

  @Override
  public List<Map<String, String>> taskConfigs(int maxTasks) {
    return super.taskConfigs(maxTasks).stream().map(WholePositionsConnector::ofDebezium).toList();
  }

  /** Debezium finds the services that belong to a connector by the exact name of its class. */
  private static Map<String, String> ofDebezium(Map<String, String> config) {
    Map<String, String> own = new HashMap<>(config);
    own.put("connector.class", PostgresConnector.class.getName());
    return own;
  }
}
