package dev.headwater.postgres;

import java.math.BigDecimal;
import java.math.RoundingMode;
import org.postgresql.util.PGInterval;

/** Prints an interval as the server does under {@code IntervalStyle = postgres}. */
final class IntervalText {

  private static final long MICROS_PER_SECOND = 1_000_000L;

  private IntervalText() {}

  static String of(PGInterval interval) {
    StringBuilder text = new StringBuilder();
    boolean negative = false;
    negative = part(text, interval.getYears(), "year", negative);
    negative = part(text, interval.getMonths(), "mon", negative);
    negative = part(text, interval.getDays(), "day", negative);
    long micros = microsOf(interval);
    if (micros != 0 || text.length() == 0) {
      clock(text, micros, negative);
    }
    return text.toString();
  }

  // A part after a negative one shows its plus sign: '-1 years +2 days'.
  private static boolean part(StringBuilder text, int value, String unit, boolean afterNegative) {
    if (value == 0) {
      return afterNegative;
    }
    if (text.length() > 0) {
      text.append(' ');
    }
    if (afterNegative && value > 0) {
      text.append('+');
    }
    text.append(value).append(' ').append(unit).append(value == 1 ? "" : "s");
    return value < 0;
  }

  private static void clock(StringBuilder text, long micros, boolean afterNegative) {
    if (text.length() > 0) {
      text.append(' ');
    }
    if (micros < 0) {
      text.append('-');
    } else if (afterNegative) {
      text.append('+');
    }
    long rest = Math.abs(micros);
    long seconds = rest / MICROS_PER_SECOND;
    text.append(String.format("%02d:%02d:%02d", seconds / 3600, seconds / 60 % 60, seconds % 60));
    long fraction = rest % MICROS_PER_SECOND;
    if (fraction != 0) {
      String digits = String.format("%06d", fraction);
      text.append('.').append(digits.replaceAll("0+$", ""));
    }
  }

  private static long microsOf(PGInterval interval) {
    // The driver keeps seconds as a double; microseconds of up to 60 s are exact once rounded.
    long seconds =
        BigDecimal.valueOf(interval.getSeconds())
            .movePointRight(6)
            .setScale(0, RoundingMode.HALF_EVEN)
            .longValueExact();
    return (interval.getHours() * 3600L + interval.getMinutes() * 60L) * MICROS_PER_SECOND
        + seconds;
  }
}
