package dev.headwater.reader;

import io.delta.kernel.data.ColumnVector;
import io.delta.kernel.data.ColumnarBatch;
import io.delta.kernel.types.ArrayType;
import io.delta.kernel.types.BinaryType;
import io.delta.kernel.types.BooleanType;
import io.delta.kernel.types.ByteType;
import io.delta.kernel.types.DataType;
import io.delta.kernel.types.DateType;
import io.delta.kernel.types.DecimalType;
import io.delta.kernel.types.DoubleType;
import io.delta.kernel.types.FloatType;
import io.delta.kernel.types.IntegerType;
import io.delta.kernel.types.LongType;
import io.delta.kernel.types.ShortType;
import io.delta.kernel.types.StringType;
import io.delta.kernel.types.TimestampNTZType;
import io.delta.kernel.types.TimestampType;
import java.time.Instant;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.Base64;

/**
 * Values in the form of the readers' lines: decimals, dates, times and other non-numbers are text,
 * bytes are base64.
 */
final class Json {
  private static final DateTimeFormatter MICROS =
      DateTimeFormatter.ofPattern("uuuu-MM-dd'T'HH:mm:ss.SSSSSS");
  private static final DateTimeFormatter MILLIS =
      DateTimeFormatter.ofPattern("uuuu-MM-dd'T'HH:mm:ss.SSS");
  private static final long MICROS_A_SECOND = 1_000_000;
  static final long NO_TIME = Long.MIN_VALUE;

  private Json() {}

  /** One line of output, without its end. `skipped` is the ordinal of a column to leave out. */
  static String line(long version, long timeMs, String change, ColumnarBatch rows, int row, int skipped) {
    StringBuilder out = new StringBuilder(256);
    out.append("{\"version\": ").append(version).append(", \"timestamp\": ");
    if (timeMs == NO_TIME) {
      out.append("null");
    } else {
      var moment = LocalDateTime.ofInstant(Instant.ofEpochMilli(timeMs), ZoneOffset.UTC);
      text(out, MILLIS.format(moment) + "Z");
    }
    out.append(", \"change\": \"").append(change).append("\", \"row\": {");
    boolean more = false;
    for (int column = 0; column < rows.getSchema().length(); column++) {
      if (column == skipped) {
        continue;
      }
      out.append(more ? ", " : "");
      text(out, rows.getSchema().at(column).getName());
      out.append(": ");
      value(out, rows.getColumnVector(column), row);
      more = true;
    }
    return out.append("}}").toString();
  }

  private static void value(StringBuilder out, ColumnVector vector, int row) {
    DataType type = vector.getDataType();
    if (vector.isNullAt(row)) {
      out.append("null");
    } else if (type instanceof StringType) {
      text(out, vector.getString(row));
    } else if (type instanceof LongType) {
      out.append(vector.getLong(row));
    } else if (type instanceof IntegerType) {
      out.append(vector.getInt(row));
    } else if (type instanceof ShortType) {
      out.append(vector.getShort(row));
    } else if (type instanceof ByteType) {
      out.append(vector.getByte(row));
    } else if (type instanceof BooleanType) {
      out.append(vector.getBoolean(row));
    } else if (type instanceof DoubleType) {
      number(out, vector.getDouble(row));
    } else if (type instanceof FloatType) {
      number(out, vector.getFloat(row)); // with the digits that a double of its value has
    } else if (type instanceof DecimalType) {
      text(out, vector.getDecimal(row).toPlainString());
    } else if (type instanceof DateType) {
      text(out, LocalDate.ofEpochDay(vector.getInt(row)).toString());
    } else if (type instanceof TimestampType) {
      text(out, MICROS.format(time(vector.getLong(row))) + "Z");
    } else if (type instanceof TimestampNTZType) {
      text(out, MICROS.format(time(vector.getLong(row))));
    } else if (type instanceof BinaryType) {
      text(out, Base64.getEncoder().encodeToString(vector.getBinary(row)));
    } else if (type instanceof ArrayType) {
      var list = vector.getArray(row);
      out.append('[');
      for (int at = 0; at < list.getSize(); at++) {
        out.append(at > 0 ? ", " : "");
        value(out, list.getElements(), at);
      }
      out.append(']');
    } else {
      throw new IllegalArgumentException("no table of silver has a column of type " + type);
    }
  }

  private static void number(StringBuilder out, double value) {
    if (Double.isFinite(value)) {
      out.append(value);
    } else {
      text(out, Double.toString(value)); // NaN, Infinity, -Infinity
    }
  }

  private static LocalDateTime time(long micros) {
    long seconds = Math.floorDiv(micros, MICROS_A_SECOND);
    int nanos = (int) Math.floorMod(micros, MICROS_A_SECOND) * 1_000;
    return LocalDateTime.ofEpochSecond(seconds, nanos, ZoneOffset.UTC);
  }

  /** A JSON string. */
  static void text(StringBuilder out, String value) {
    out.append('"');
    for (int at = 0; at < value.length(); at++) {
      char letter = value.charAt(at);
      if (letter == '"' || letter == '\\') {
        out.append('\\').append(letter);
      } else if (letter < ' ') {
        out.append(String.format("\\u%04x", (int) letter));
      } else {
        out.append(letter);
      }
    }
    out.append('"');
  }
}
