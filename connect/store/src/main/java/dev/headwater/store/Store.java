package dev.headwater.store;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;
import org.gaul.s3proxy.BlobStores;
import org.gaul.s3proxy.S3Proxy;
import org.gaul.s3proxy.blobstore.BlobStore;

/** s3proxy over files, as its own main class starts it, with what S3 promises on top. */
public final class Store {
  private Store() {}

  /** Serves until the process is told to end. The one argument is s3proxy's properties file. */
  public static void main(String[] arguments) throws Exception {
    if (arguments.length != 1) {
      System.err.println("usage: Store PROPERTIES");
      System.exit(2);
    }
    Properties settings = new Properties();
    try (var file = Files.newInputStream(Path.of(arguments[0]))) {
      settings.load(file);
    }
    BlobStore files = BlobStores.create(settings.getProperty("jclouds.provider"), settings);
    Path root = Path.of(settings.getProperty("jclouds.filesystem.basedir"));
    BlobStore steady = new SteadyStore(new TailListing(files, root), root);
    S3Proxy proxy = S3Proxy.Builder.fromProperties(settings).blobStore(steady).build();
    proxy.start();
    Runtime.getRuntime().addShutdownHook(new Thread(() -> stop(proxy), "stop"));
  }

  private static void stop(S3Proxy proxy) {
    try {
      proxy.stop(); // answers what it has begun
    } catch (Exception failed) {
      System.err.println("the store did not stop cleanly: " + failed);
    }
  }
}
