package dev.headwater.store;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;
import org.gaul.s3proxy.BlobStores;
import org.gaul.s3proxy.S3Proxy;
import org.gaul.s3proxy.blobstore.BlobStore;

/** Starts s3proxy like its own main class, with additions that keep S3's guarantees. */
public final class Store {
  private Store() {}

  /**
   * Serves until the process is told to end. The one argument is s3proxy's properties file; the
   * objects are files, or those of the provider that it names.
   */
  public static void main(String[] arguments) throws Exception {
    if (arguments.length != 1) {
      System.err.println("usage: Store PROPERTIES");
      System.exit(2);
    }
    Properties settings = new Properties();
    try (var file = Files.newInputStream(Path.of(arguments[0]))) {
      settings.load(file);
    }
    BlobStore store;
    try {
      store = opened(settings);
    } catch (Unusable unusable) {
      System.err.println(unusable.getMessage());
      System.exit(1);
      return;
    }
    S3Proxy proxy = S3Proxy.Builder.fromProperties(settings).blobStore(store).build();
    proxy.start();
    Runtime.getRuntime().addShutdownHook(new Thread(() -> stop(proxy), "stop"));
  }

  private static BlobStore opened(Properties settings) throws IOException, Unusable {
    String provider = settings.getProperty("jclouds.provider");
    if (provider.equals(GoogleStore.PROVIDER)) {
      return GoogleStore.open(settings);
    }
    Path root = Path.of(settings.getProperty("jclouds.filesystem.basedir"));
    for (String bucket : settings.getProperty("headwater.buckets").split(",")) {
      Files.createDirectories(root.resolve(bucket));
    }
    BlobStore files = BlobStores.create(provider, settings);
    return new SteadyStore(new TailListing(files, root), root);
  }

  private static void stop(S3Proxy proxy) {
    try {
      proxy.stop(); // answers what it has begun
    } catch (Exception failed) {
      System.err.println("the store did not stop cleanly: " + failed);
    }
  }
}
