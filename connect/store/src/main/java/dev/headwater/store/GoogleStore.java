package dev.headwater.store;

import com.google.auth.oauth2.GoogleCredentials;
import java.io.IOException;
import java.io.InputStream;
import java.io.SequenceInputStream;
import java.util.ArrayList;
import java.util.Enumeration;
import java.util.Iterator;
import java.util.List;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.Semaphore;
import java.util.function.Supplier;
import java.util.logging.Level;
import java.util.logging.Logger;
import org.gaul.s3proxy.BlobStores;
import org.gaul.s3proxy.blobstore.BlobStore;
import org.gaul.s3proxy.blobstore.ForwardingBlobStore;
import org.gaul.s3proxy.blobstore.S3Exceptions;
import org.gaul.s3proxy.blobstore.SdkResponses;
import org.gaul.s3proxy.blobstore.domain.MultipartUpload;
import software.amazon.awssdk.services.s3.model.CommonPrefix;
import software.amazon.awssdk.services.s3.model.CompleteMultipartUploadRequest;
import software.amazon.awssdk.services.s3.model.CompleteMultipartUploadResponse;
import software.amazon.awssdk.services.s3.model.CompletedPart;
import software.amazon.awssdk.services.s3.model.ListObjectsV2Request;
import software.amazon.awssdk.services.s3.model.ListObjectsV2Response;
import software.amazon.awssdk.services.s3.model.PutObjectRequest;
import software.amazon.awssdk.services.s3.model.PutObjectResponse;
import software.amazon.awssdk.services.s3.model.S3Exception;
import software.amazon.awssdk.services.s3.model.S3Object;
import software.amazon.awssdk.services.s3.model.UploadPartRequest;
import software.amazon.awssdk.services.s3.model.UploadPartResponse;

/**
 * Google Cloud Storage behind the S3 protocol: s3proxy uses Google's own API, in which a put can be
 * conditional on the object's generation. Google's S3 interface ignores {@code If-None-Match}.
 *
 * <ol>
 *   <li>A listing with a delimiter misses no entry at the end of a page.
 *   <li>An upload in parts that is completed on a condition is put as one object.
 *   <li>Uploads wait for each other if together they would not fit into the heap.
 * </ol>
 */
final class GoogleStore extends ForwardingBlobStore {
  static final String PROVIDER = "google-cloud-storage";

  private static final String NOBODY = "none";
  // A text that is not a key makes s3proxy ask Google's library, which knows more credentials.
  private static final String ASK_GOOGLES_LIBRARY = "{}";
  private static final String PARTS = "/part_%05d"; // as s3proxy names them, behind the upload's id
  private static final String PROBE = "_headwater/conditional-put";
  private static final int MB = 1 << 20;
  private static final int UPLOADS_MB = 64; // of a heap of 240 MB, which also holds what was received
  private static final int CHUNK_MB_MAX = 15; // s3proxy's largest; it is held twice

  // Silences a message about a TLS library that is not needed.
  private static final Logger GAX = Logger.getLogger("com.google.api.gax.httpjson");

  private final Semaphore uploads = new Semaphore(UPLOADS_MB, true);

  GoogleStore(BlobStore store) {
    super(store);
  }

  /** Opens the store; makes sure that its buckets exist and honour conditional puts. */
  static GoogleStore open(Properties settings) throws Unusable {
    GAX.setLevel(Level.SEVERE);
    boolean nobody = settings.getProperty("jclouds.credential").equals(NOBODY);
    if (!nobody) {
      requireIdentity();
    }
    settings.setProperty("jclouds.credential", nobody ? "" : ASK_GOOGLES_LIBRARY);
    GoogleStore store = new GoogleStore(BlobStores.create(PROVIDER, settings));
    for (String bucket : settings.getProperty("headwater.buckets", "").split(",")) {
      store.check(bucket);
    }
    return store;
  }

  /** The credentials that `GOOGLE_APPLICATION_CREDENTIALS` names, or this machine's or pod's own. */
  private static void requireIdentity() throws Unusable {
    try {
      GoogleCredentials.getApplicationDefault();
    } catch (IOException missing) {
      throw new Unusable(
          "no identity at Google: " + missing.getMessage()
              + "\nhint: gcs_credentials in the profile is the path of a credentials file (JSON), or"
              + " `default` if the machine or the pod has an identity");
    }
  }

  /** Stops the store if a bucket cannot be used; continues if Google does not answer now. */
  private void check(String bucket) throws Unusable {
    try {
      if (!containerExists(bucket)) {
        throw new Unusable(
            "there is no bucket `" + bucket + "` at Google Cloud Storage"
                + "\nhint: gcloud storage buckets create gs://" + bucket
                + " --uniform-bucket-level-access");
      }
      if (putIfFree(bucket) && putIfFree(bucket)) {
        throw new Unusable(
            "bucket `" + bucket + "`: a second put of " + PROBE + " on the condition that it does"
                + " not exist was accepted\nhint: two writers would overwrite each other; the server"
                + " at gcs_endpoint does not honour Google's preconditions");
      }
    } catch (RuntimeException failed) {
      if (status(failed) == 401 || status(failed) == 403) {
        throw new Unusable(
            "bucket `" + bucket + "` refuses this identity: " + root(failed)
                + "\nhint: it needs roles/storage.objectUser and roles/storage.legacyBucketReader on"
                + " the bucket");
      }
      System.err.println("bucket `" + bucket + "` could not be checked, serving on: " + failed);
    }
  }

  private boolean putIfFree(String bucket) {
    try {
      var probe =
          PutObjectRequest.builder().bucket(bucket).key(PROBE).ifNoneMatch("*").contentLength(0L);
      putBlob(probe.build(), InputStream.nullInputStream());
      return true;
    } catch (S3Exception refused) {
      if (refused.statusCode() == 412) {
        return false;
      }
      throw refused;
    }
  }

  private static int status(Throwable failed) {
    for (Throwable cause = failed; cause != null; cause = cause.getCause()) {
      if (cause instanceof S3Exception answered) {
        return answered.statusCode();
      }
      if (cause instanceof com.google.cloud.storage.StorageException answered) {
        return answered.getCode();
      }
    }
    return 0;
  }

  private static String root(Throwable failed) {
    Throwable cause = failed;
    while (cause.getCause() != null) {
      cause = cause.getCause();
    }
    return String.valueOf(cause.getMessage());
  }

  /**
   * Google's library gives a page's objects before its common prefixes, and s3proxy 4.1.0 cuts
   * and continues in that order, so a prefix before the last object is lost. Here both are in one
   * order; this needs all later entries to be read, with a request for each thousand.
   */
  @Override
  public ListObjectsV2Response list(ListObjectsV2Request request) {
    if (request.delimiter() == null || request.maxKeys() == null) {
      return delegate().list(request);
    }
    var all = delegate().list(request.toBuilder().maxKeys((Integer) null).build());
    TreeMap<String, Object> entries = new TreeMap<>();
    all.contents().forEach(object -> entries.put(object.key(), object));
    all.commonPrefixes().forEach(prefix -> entries.put(prefix.prefix(), prefix));
    List<S3Object> objects = new ArrayList<>();
    List<CommonPrefix> prefixes = new ArrayList<>();
    String last = null;
    for (var entry : entries.entrySet()) {
      if (objects.size() + prefixes.size() == request.maxKeys()) {
        return SdkResponses.objectsPage(objects, prefixes, last);
      }
      last = entry.getKey();
      if (entry.getValue() instanceof S3Object object) {
        objects.add(object);
      } else {
        prefixes.add((CommonPrefix) entry.getValue());
      }
    }
    return SdkResponses.objectsPage(objects, prefixes, null);
  }

  @Override
  public PutObjectResponse putBlob(PutObjectRequest request, InputStream payload) {
    try {
      return inTurn(request.contentLength(), () -> delegate().putBlob(request, payload));
    } catch (S3Exception refused) {
      // Google refuses an identity that may create but not replace before it checks the condition.
      boolean taken =
          refused.statusCode() == 403
              && "*".equals(request.ifNoneMatch())
              && blobExists(request.bucket(), request.key());
      throw taken ? S3Exceptions.fromStatusCode(412, refused) : refused;
    }
  }

  @Override
  public UploadPartResponse uploadMultipartPart(
      MultipartUpload upload, UploadPartRequest request, InputStream payload) {
    return inTurn(
        request.contentLength(), () -> delegate().uploadMultipartPart(upload, request, payload));
  }

  private <T> T inTurn(Long length, Supplier<T> upload) {
    long chunk = length == null ? CHUNK_MB_MAX : Math.min(CHUNK_MB_MAX, length / MB + 1);
    int held = (int) (2 * chunk);
    uploads.acquireUninterruptibly(held);
    try {
      return upload.get();
    } finally {
      uploads.release(held);
    }
  }

  /**
   * s3proxy 4.1.0 reads the condition of a completion as a request to publish the object: it makes
   * the object readable by everybody, or fails after the write if the bucket forbids that. Such
   * parts are therefore put as one object. Only commits of Spark larger than a part need this.
   */
  @Override
  public CompleteMultipartUploadResponse completeMultipartUpload(
      MultipartUpload upload, CompleteMultipartUploadRequest request) {
    List<CompletedPart> parts =
        request.multipartUpload() == null ? List.of() : request.multipartUpload().parts();
    boolean conditional = request.ifNoneMatch() != null || request.ifMatch() != null;
    if (!conditional) {
      return delegate().completeMultipartUpload(upload, request);
    }
    String bucket = upload.containerName();
    List<String> names =
        parts.stream().map(part -> upload.id() + PARTS.formatted(part.partNumber())).toList();
    long length = 0;
    for (String name : names) {
      var part = delegate().blobMetadata(bucket, name);
      if (part == null) {
        throw S3Exceptions.fromStatusCode(404);
      }
      length += part.contentLength();
    }
    var whole =
        PutObjectRequest.builder()
            .bucket(bucket)
            .key(upload.blobName())
            .contentLength(length)
            .ifMatch(request.ifMatch())
            .ifNoneMatch(request.ifNoneMatch())
            .build();
    PutObjectResponse put = putBlob(whole, new SequenceInputStream(opened(bucket, names)));
    try {
      delegate().abortMultipartUpload(upload); // the object exists, so the parts are removed
    } catch (RuntimeException left) {
      System.err.println("parts of " + upload.blobName() + " stay below .s3proxy/: " + left);
    }
    return SdkResponses.completeResponse(put.eTag(), null);
  }

  /** The parts' streams; each is opened once the previous one is read. */
  private Enumeration<InputStream> opened(String bucket, List<String> names) {
    Iterator<String> each = names.iterator();
    return new Enumeration<>() {
      @Override
      public boolean hasMoreElements() {
        return each.hasNext();
      }

      @Override
      public InputStream nextElement() {
        return delegate().getBlob(bucket, each.next());
      }
    };
  }
}
