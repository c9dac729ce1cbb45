/* For the plugins of the tests, each of which includes it once. */
#ifndef PLUGIN_VERSION_H
#define PLUGIN_VERSION_H

/* The interface, of those that the broker offers: the fifth. */
int mosquitto_plugin_version(int count, const int *versions)
{
	int i;

	for (i = 0; i < count; i++) {
		if (versions[i] == 5) {
			return 5;
		}
	}
	return -1;
}

#endif
