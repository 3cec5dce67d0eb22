package dev.headwater.bronze;

import java.util.Collections;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.config.Config;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.common.config.ConfigValue;
import org.apache.kafka.connect.connector.Task;
import org.apache.kafka.connect.sink.SinkConnector;

/** Writes every record of its topics to an S3 bucket, raw and exactly once. */
public final class BronzeSinkConnector extends SinkConnector {
  private Map<String, String> properties = Map.of();

  @Override
  public void start(Map<String, String> given) {
    // Refuse a wrong configuration here, before any task starts.
    properties = new BronzeConfig(given).originalsStrings();
  }

  @Override
  public List<Map<String, String>> taskConfigs(int maxTasks) {
    return Collections.nCopies(maxTasks, properties);
  }

  /** Adds the rules between settings to the checks of single ones. */
  @Override
  public Config validate(Map<String, String> given) {
    Config checked = super.validate(given);
    for (String problem : BronzeConfig.problems(given)) {
      for (ConfigValue value : checked.configValues()) {
        if (value.name().equals("bucket")) {
          value.addErrorMessage(problem);
        }
      }
    }
    return checked;
  }

  @Override
  public Class<? extends Task> taskClass() {
    return BronzeSinkTask.class;
  }

  @Override
  public ConfigDef config() {
    return BronzeConfig.DEF;
  }

  @Override
  public String version() {
    return BronzeConfig.VERSION;
  }

  @Override
  public void stop() {}
}
