package dev.headwater.reader;

import io.delta.kernel.data.ColumnVector;
import io.delta.kernel.data.MapValue;
import io.delta.kernel.types.StructType;
import java.net.URI;
import java.util.HashMap;
import java.util.Map;

/**
 * A file that a commit names.
 *
 * @param path below the table.
 * @param size in bytes; 0 if the commit does not say.
 * @param partition partition column → value as the log has it.
 * @param change the change of all its rows; null: each row has its own.
 */
record DataFile(String path, long size, Map<String, String> partition, String change) {

  /** The file of row `row` of an action's column. */
  static DataFile of(ColumnVector action, int row, String change) {
    ColumnVector deletions = child(action, "deletionVector");
    if (deletions != null && !deletions.isNullAt(row)) {
      throw new IllegalArgumentException(
          "the table has deletion vectors, which no table of silver has");
    }
    // A relative URI, its characters escaped.
    String path = URI.create(child(action, "path").getString(row)).getPath();
    ColumnVector size = child(action, "size");
    ColumnVector values = child(action, "partitionValues");
    return new DataFile(
        path,
        size.isNullAt(row) ? 0 : size.getLong(row),
        values.isNullAt(row) ? Map.of() : map(values.getMap(row)),
        change);
  }

  /** A field of a struct column; null if it has none of that name. */
  static ColumnVector child(ColumnVector struct, String name) {
    int at = ((StructType) struct.getDataType()).indexOf(name);
    return at < 0 ? null : struct.getChild(at);
  }

  /** A map of texts. */
  static Map<String, String> map(MapValue value) {
    Map<String, String> found = new HashMap<>();
    for (int at = 0; at < value.getSize(); at++) {
      String text = value.getValues().isNullAt(at) ? null : value.getValues().getString(at);
      found.put(value.getKeys().getString(at), text);
    }
    return found;
  }
}
