import com.hivemq.embedded.EmbeddedExtension;
import com.hivemq.embedded.EmbeddedHiveMQ;
import com.hivemq.extension.sdk.api.ExtensionMain;
import com.hivemq.extension.sdk.api.auth.SimpleAuthenticator;
import com.hivemq.extension.sdk.api.auth.parameter.SimpleAuthInput;
import com.hivemq.extension.sdk.api.auth.parameter.SimpleAuthOutput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartOutput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopOutput;
import com.hivemq.extension.sdk.api.services.Services;
import java.nio.file.Files;
import java.nio.file.Path;

/** HiveMQ CE in the folder that is its argument (with conf/config.xml), letting everybody in: by itself it lets in nobody. */
public final class HiveMQ {

	private static final class EverybodyMayConnect implements ExtensionMain, SimpleAuthenticator {
		@Override
		public void extensionStart(ExtensionStartInput input, ExtensionStartOutput output) {
			Services.securityRegistry().setAuthenticatorProvider(provider -> this);
		}

		@Override
		public void extensionStop(ExtensionStopInput input, ExtensionStopOutput output) {
		}

		@Override
		public void onConnect(SimpleAuthInput input, SimpleAuthOutput output) {
			output.authenticateSuccessfully();
		}
	}

	public static void main(String[] arguments) throws Exception {
		Path folder = Path.of(arguments[0]);
		Path data = Files.createDirectories(folder.resolve("data"));
		Path extensions = Files.createDirectories(folder.resolve("extensions"));
		EmbeddedExtension everybody = EmbeddedExtension.builder()
				.withId("everybody").withName("Everybody may connect").withVersion("1").withAuthor("tests")
				.withExtensionMain(new EverybodyMayConnect()).build();
		EmbeddedHiveMQ broker = EmbeddedHiveMQ.builder().withConfigurationFolder(folder.resolve("conf")).withDataFolder(data)
				.withExtensionsFolder(extensions).withEmbeddedExtension(everybody).build();
		broker.start().join();
		System.out.println("started");
		Thread.currentThread().join();
	}
}
