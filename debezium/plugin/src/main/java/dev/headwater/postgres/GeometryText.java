package dev.headwater.postgres;

import java.math.BigDecimal;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Prints the numbers of a point, box, path and so on as the server prints a double. */
final class GeometryText {

  private static final Pattern NUMBER = Pattern.compile("-?\\d+(\\.\\d+)?(E-?\\d+)?");

  private GeometryText() {}

  /** Takes the driver's text, which has the server's punctuation around Java's numbers. */
  static String of(String driverText) {
    if (driverText == null) {
      return null;
    }
    Matcher numbers = NUMBER.matcher(driverText);
    StringBuilder text = new StringBuilder();
    while (numbers.find()) {
      numbers.appendReplacement(text, number(numbers.group()));
    }
    return numbers.appendTail(text).toString();
  }

  // The server writes exponents below 1e-4 and from 1e15 on, with a sign and two digits at least.
  private static String number(String java) {
    BigDecimal value = new BigDecimal(java).stripTrailingZeros();
    if (value.signum() == 0) {
      return java.startsWith("-") ? "-0" : "0";
    }
    int exponent = value.precision() - value.scale() - 1;
    if (exponent >= -4 && exponent < 15) {
      return value.toPlainString();
    }
    String digits = value.unscaledValue().abs().toString();
    String fraction = digits.length() > 1 ? "." + digits.substring(1) : "";
    String sign = value.signum() < 0 ? "-" : "";
    return sign
        + digits.charAt(0)
        + fraction
        + (exponent < 0 ? "e-" : "e+")
        + String.format("%02d", Math.abs(exponent));
  }
}
