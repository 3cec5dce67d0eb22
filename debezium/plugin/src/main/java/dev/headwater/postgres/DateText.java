package dev.headwater.postgres;

import java.time.LocalDate;
import java.util.Calendar;
import java.util.GregorianCalendar;
import org.postgresql.PGStatement;

/** Prints a date as the server does under {@code DateStyle = ISO}. */
final class DateText {

  // The days that the WAL decoder makes of infinity and -infinity.
  private static final LocalDate INFINITY = LocalDate.parse("+5877611-06-21");
  private static final LocalDate MINUS_INFINITY = LocalDate.parse("-5877611-06-22");

  private DateText() {}

  /** The WAL decoder's date: proleptic Gregorian, as the server counts. */
  static String of(LocalDate date) {
    if (date.equals(INFINITY)) {
      return "infinity";
    }
    if (date.equals(MINUS_INFINITY)) {
      return "-infinity";
    }
    return text(date.getYear(), date.getMonthValue(), date.getDayOfMonth());
  }

  /**
   * The snapshot's date. The driver put the server's year, month and day into the hybrid Julian
   * calendar of java.sql.Date, so they are read back from that calendar, not from the instant. The
   * calendar lacks ten days, 1582-10-05 to 1582-10-14; they arrive as the days ten days later,
   * which are valid dates, too. The text then names both days, so that no reader takes it for a
   * date.
   */
  static String of(java.sql.Date date) {
    if (date.getTime() == PGStatement.DATE_POSITIVE_INFINITY) {
      return "infinity";
    }
    if (date.getTime() == PGStatement.DATE_NEGATIVE_INFINITY) {
      return "-infinity";
    }
    Calendar calendar = new GregorianCalendar();
    calendar.setTime(date);
    boolean beforeChrist = calendar.get(Calendar.ERA) == GregorianCalendar.BC;
    int year = calendar.get(Calendar.YEAR);
    int month = calendar.get(Calendar.MONTH) + 1;
    int day = calendar.get(Calendar.DAY_OF_MONTH);
    String text = text(beforeChrist ? 1 - year : year, month, day);
    if (!beforeChrist && year == 1582 && month == 10 && day >= 15 && day <= 24) {
      return text(year, month, day - 10) + " or " + text;
    }
    return text;
  }

  /** Astronomical year: 0 is 1 BC. */
  private static String text(int year, int month, int day) {
    boolean beforeChrist = year <= 0;
    StringBuilder text = new StringBuilder(13);
    padded(text, beforeChrist ? 1 - year : year, 4);
    padded(text.append('-'), month, 2);
    padded(text.append('-'), day, 2);
    return (beforeChrist ? text.append(" BC") : text).toString();
  }

  // String.format would take most of a snapshot's time in a table of dates.
  private static void padded(StringBuilder text, int number, int width) {
    String digits = Integer.toString(number);
    text.append("0".repeat(Math.max(0, width - digits.length()))).append(digits);
  }
}
