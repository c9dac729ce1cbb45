/* What tells a Mosquitto 2.1 from a 2.0. In a file of its own, without Mosquitto's headers, because those of
 * a 2.1 declare it, with a type that those of a 2.0 do not have. */
__attribute__((visibility("default"))) int mosquitto_persist_client_add(void *client);

int mosquitto_persist_client_add(void *client)
{
	(void)client;
	return 0;
}
