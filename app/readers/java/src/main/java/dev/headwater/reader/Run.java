package dev.headwater.reader;

import java.io.IOException;
import java.net.InetAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.time.Instant;
import java.util.Map;
import java.util.UUID;

/**
 * A run's own records: its log on stderr and, with an intake, also in the lake.
 *
 * <p>With HEADWATER_INTAKE_URL and HEADWATER_INTAKE_TOKEN its lines become rows of
 * `lake.silver.app_logs` and its states (started, ended, failed) rows of `lake.silver.app_runs`.
 * Each event keeps its key when it is sent again, so silver has it once.
 */
final class Run {
  private static final Duration TIMEOUT = Duration.ofSeconds(5);
  private static final int TRIES = 3;
  private static final long PAUSE_MS = 500;

  private final String service;
  private final String id;
  private final String url;
  private final String token;
  private final HttpClient client = HttpClient.newBuilder().connectTimeout(TIMEOUT).build();

  Run(String service, Map<String, String> environment) throws IOException, ReaderException {
    this.service = service;
    this.url = environment.getOrDefault("HEADWATER_INTAKE_URL", "");
    this.token = environment.getOrDefault("HEADWATER_INTAKE_TOKEN", "");
    if (!url.isEmpty() && token.isEmpty()) {
      throw new ReaderException(
          "HEADWATER_INTAKE_TOKEN is not set", "", "`./headwater streams login` prints it");
    }
    String host = InetAddress.getLocalHost().getHostName();
    long process = ProcessHandle.current().pid();
    this.id = service + "/" + host + "/" + process + "/" + System.currentTimeMillis();
  }

  /** One line of the run's log. */
  void log(String level, String message) {
    System.err.println(message);
    send("app_logs", UUID.randomUUID().toString(), Map.of("level", level, "message", message, "file", "stderr"), "");
  }

  /**
   * A state that the run has reached.
   *
   * @param error why it ended; empty if it did not fail.
   * @param details a JSON object.
   */
  void state(String state, String error, String details) {
    Map<String, String> data =
        error.isEmpty() ? Map.of("state", state) : Map.of("state", state, "error", error);
    long process = ProcessHandle.current().pid();
    send("app_runs", id + "/" + state, data, ", \"pid\": " + process + ", \"details\": " + details);
  }

  private void send(String stream, String key, Map<String, String> data, String more) {
    if (url.isEmpty()) {
      return;
    }
    StringBuilder body = new StringBuilder("{\"events\": [{\"key\": ");
    Json.text(body, key);
    body.append(", \"time\": \"").append(Instant.now()).append("\", \"data\": {\"service\": ");
    Json.text(body, service);
    body.append(", \"run_id\": ");
    Json.text(body, id);
    data.forEach(
        (name, value) -> {
          body.append(", \"").append(name).append("\": ");
          Json.text(body, value);
        });
    post(stream, body.append(more).append("}}]}").toString());
  }

  private void post(String stream, String body) {
    String last = "";
    for (int tries = 0; tries < TRIES; tries++) {
      try {
        HttpRequest request =
            HttpRequest.newBuilder(URI.create(url + "/api/v1/streams/" + stream + "/events"))
                .header("authorization", "Bearer " + token)
                .header("content-type", "application/json")
                .timeout(TIMEOUT)
                .POST(HttpRequest.BodyPublishers.ofString(body))
                .build();
        HttpResponse<String> answer = client.send(request, HttpResponse.BodyHandlers.ofString());
        last = answer.statusCode() + " " + answer.body();
        if (answer.statusCode() == 200 && answer.body().contains("\"accepted\":1")) {
          return;
        }
        if (answer.statusCode() < 429) {
          break; // refused: a retry would be refused, too
        }
        Thread.sleep(PAUSE_MS);
      } catch (IOException | IllegalArgumentException error) {
        last = error.toString();
      } catch (InterruptedException interrupted) {
        Thread.currentThread().interrupt();
        break;
      }
    }
    System.err.println("a record of this run is lost: " + last);
  }
}
