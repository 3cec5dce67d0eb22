package dev.headwater.postgres;

import java.sql.Array;
import java.sql.SQLException;
import java.sql.SQLXML;
import java.time.LocalDate;
import java.util.Base64;
import java.util.Collection;
import java.util.Map;
import org.postgresql.geometric.PGbox;
import org.postgresql.geometric.PGcircle;
import org.postgresql.geometric.PGline;
import org.postgresql.geometric.PGlseg;
import org.postgresql.geometric.PGpath;
import org.postgresql.geometric.PGpoint;
import org.postgresql.geometric.PGpolygon;
import org.postgresql.util.PGInterval;
import org.postgresql.util.PGobject;

/** The text that PostgreSQL prints for a value which its driver, or Debezium, has parsed. */
final class PostgresText {

  /** What Debezium sends in place of an unchanged TOAST value. */
  static final String UNCHANGED_TOAST = "__debezium_unavailable_value";

  private PostgresText() {}

  /**
   * Returns the text of one column value, or null for NULL.
   *
   * @param value the value from the snapshot's driver or the WAL decoder
   * @param declaredDefault the column's DEFAULT as Debezium parsed it, which is converted here
   *     once for the schema; the schema is never sent, so an unknown class is accepted
   * @param where the column, for the error
   * @throws IllegalArgumentException if no text is known for the value's class: a stopped
   *     connector can be repaired, a wrong value in the lake cannot
   */
  static String of(Object value, Object declaredDefault, String where) {
    if (value == null) {
      return null;
    }
    if (value instanceof String text) {
      return text;
    }
    if (isUnchangedToast(value)) {
      return UNCHANGED_TOAST;
    }
    if (value instanceof byte[] bytes) {
      return Base64.getEncoder().encodeToString(bytes);
    }
    if (value instanceof Map<?, ?> pairs) {
      return HstoreText.of(pairs);
    }
    if (value instanceof Array array) {
      return array.toString(); // PgArray: the literal as the server sent it
    }
    if (value instanceof PGInterval interval) {
      return IntervalText.of(interval);
    }
    if (value instanceof LocalDate date) {
      return DateText.of(date);
    }
    if (value instanceof java.sql.Date date) {
      return DateText.of(date);
    }
    if (value instanceof PGobject object) {
      return isGeometry(object) ? GeometryText.of(object.getValue()) : object.getValue();
    }
    if (value instanceof SQLXML xml) {
      return textOf(xml, where);
    }
    if (value instanceof Number || value instanceof Boolean || value instanceof java.util.UUID) {
      return value.toString();
    }
    if (value == declaredDefault) {
      return null;
    }
    throw new IllegalArgumentException(
        "column " + where + ": no text is known for a " + value.getClass().getName());
  }

  // Debezium marks an unchanged value by a bare Object, or by a list holding one. (A map is not a
  // mark: it is an hstore, whose type the driver knows if it is on the search path.)
  private static boolean isUnchangedToast(Object value) {
    return value.getClass() == Object.class || value instanceof Collection;
  }

  private static boolean isGeometry(PGobject value) {
    return value instanceof PGpoint
        || value instanceof PGline
        || value instanceof PGlseg
        || value instanceof PGbox
        || value instanceof PGpath
        || value instanceof PGpolygon
        || value instanceof PGcircle;
  }

  private static String textOf(SQLXML xml, String where) {
    try {
      return xml.getString();
    } catch (SQLException failure) {
      throw new IllegalArgumentException("column " + where + ": unreadable xml", failure);
    }
  }
}
