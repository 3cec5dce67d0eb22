package dev.headwater.peers;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.Writer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * Reads tables on request: `Reader FORMAT WAREHOUSE`, with FORMAT `iceberg` or `paimon`.
 *
 * <p>Requests come on stdin, one a line: `v TABLE ID` answers the row's `v`, or `none`; `dump TABLE FILE` writes all
 * rows to FILE, one a line, values separated by tabs (`\N` is NULL), and answers their number. A request that failed
 * is answered with `error` and the reason.
 */
public final class Reader {
  private Reader() {}

  public static void main(String[] arguments) throws Exception {
    PrintStream answers = System.out;
    System.setOut(System.err); // libraries print to it
    Lake lake =
        arguments[0].equals("iceberg")
            ? new IcebergLake(arguments[1])
            : new PaimonLake(arguments[1]);
    var requests = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = requests.readLine(); line != null; line = requests.readLine()) {
      String[] words = line.split(" ");
      String answer;
      try {
        answer = words[0].equals("v") ? value(lake, words) : dump(lake, words);
      } catch (Exception error) {
        answer = "error " + error.toString().replace('\n', ' ');
      }
      answers.println(answer);
      answers.flush();
    }
  }

  private static String value(Lake lake, String[] words) throws Exception {
    List<String> found = new ArrayList<>();
    lake.read(words[1], Long.valueOf(words[2]), row -> found.add(row[1]));
    return found.isEmpty() ? "none" : String.join(",", found);
  }

  private static String dump(Lake lake, String[] words) throws Exception {
    long[] count = {0};
    try (Writer file = Files.newBufferedWriter(Path.of(words[2]))) {
      lake.read(
          words[1],
          null,
          row -> {
            for (int i = 0; i < row.length; i++) {
              row[i] = row[i] == null ? "\\N" : row[i];
            }
            try {
              file.write(String.join("\t", row) + "\n");
            } catch (java.io.IOException error) {
              throw new java.io.UncheckedIOException(error);
            }
            count[0]++;
          });
    }
    return Long.toString(count[0]);
  }
}
