package dev.headwater.postgres;

/** A real as the double precision number that PostgreSQL casts it to. */
final class RealNumber {

  private RealNumber() {}

  /**
   * Returns the number, or null for NULL.
   *
   * @param value the value from the snapshot's driver, the WAL decoder or the column's DEFAULT
   * @param where the column, for the error
   * @throws IllegalArgumentException if the value is not a number
   */
  static Double of(Object value, String where) {
    if (value == null) {
      return null;
    }
    if (value instanceof Number number) {
      return (double) number.floatValue();
    }
    if (value instanceof String text) {
      return (double) Float.parseFloat(text);
    }
    throw new IllegalArgumentException(
        "column " + where + ": no number is known for a " + value.getClass().getName());
  }
}
