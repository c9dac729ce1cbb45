# A package for the Debian that this is built on: cmake --build FOLDER --target package. docs/install.md has all of it.

set(debian ${CMAKE_CURRENT_LIST_DIR}/debian)
set(package mqttasgi-broker)
set(made ${CMAKE_BINARY_DIR}/debian)
set(CMAKE_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
	OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)

# The plugin is tied to one version of Python, as the names of Debian's releases are. Unstable and testing have no number.
file(STRINGS /etc/os-release release REGEX "^VERSION_ID=")
string(REGEX REPLACE "[^0-9.]" "" release "${release}")
if(release)
	string(PREPEND release "~deb")
endif()
set(PACKAGE_REVISION "1${release}" CACHE STRING "Debian revision of the package")
set(PACKAGE_MAINTAINER "The mqttasgi developers <mqttasgi@example.org>" CACHE STRING "who answers for the package")

if(NOT PYTHON_PROGRAM STREQUAL "/usr/bin/python3")
	message(FATAL_ERROR "Debian's package is for Debian's Python: -DPython3_EXECUTABLE=/usr/bin/python3")
endif()

# ---- what is in it ----

# The package where Debian's are, with the plugin in it as pip has it. Mosquitto's configuration names the plugin where
# cmake --install puts it, and the folder beside that has the package alone.
set(packages lib/python3/dist-packages)
install(DIRECTORY python/mqttasgi DESTINATION ${packages} ${LEFT_BEHIND})
install(TARGETS mqttasgi_plugin LIBRARY DESTINATION ${packages}/mqttasgi)
file(MAKE_DIRECTORY ${made})
file(CREATE_LINK python3/dist-packages/mqttasgi/mqttasgi_plugin.so ${made}/mqttasgi_plugin.so SYMBOLIC)
file(CREATE_LINK ../python3/dist-packages/mqttasgi ${made}/mqttasgi SYMBOLIC)
install(FILES ${made}/mqttasgi_plugin.so DESTINATION lib)
install(FILES ${made}/mqttasgi DESTINATION lib/mqttasgi)
# So that pip and importlib.metadata know what is there.
configure_file(${debian}/METADATA.in ${made}/METADATA @ONLY)
install(FILES ${made}/METADATA
	DESTINATION ${packages}/mqttasgi_broker-${PROJECT_VERSION}.dist-info)
install(PROGRAMS ${debian}/mqttasgi DESTINATION bin)
install(FILES ${SAMPLES} DESTINATION share/doc/${package}/examples)
install(FILES ${debian}/copyright DESTINATION share/doc/${package})

# Debian's has the version, who made it and when; what is new is in ours.
string(TIMESTAMP today "%a, %d %b %Y %H:%M:%S +0000" UTC)
configure_file(${debian}/changelog.in ${made}/changelog.Debian @ONLY)
configure_file(CHANGELOG.md ${made}/changelog COPYONLY)
configure_file(${debian}/mqttasgi.1.in ${made}/mqttasgi.1 @ONLY)
foreach(file changelog changelog.Debian mqttasgi.1)
	execute_process(COMMAND gzip -9nf ${made}/${file} RESULT_VARIABLE failed)
	if(failed)
		message(FATAL_ERROR "gzip, which compresses ${file}, ended with ${failed}")
	endif()
endforeach()
install(FILES ${made}/changelog.gz ${made}/changelog.Debian.gz DESTINATION share/doc/${package})
install(FILES ${made}/mqttasgi.1.gz DESTINATION share/man/man1)

# ---- what is said of it ----

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME ${package})
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Django Channels consumers inside the Mosquitto broker")
set(CPACK_PACKAGE_DESCRIPTION "A plugin for Mosquitto that runs an ASGI application in the broker: a sensor
publishes, Mosquitto calls Python code, and that publishes the answer, with no
process in between. Consumers have the interface of the program mqttasgi.
.
Brings the plugin, the Python package mqttasgi, and the command mqttasgi, which
starts a broker with an application in it. A broker that is already there goes
on as it is until its configuration names the plugin.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE ${PACKAGE_REVISION})
set(CPACK_DEBIAN_PACKAGE_MAINTAINER ${PACKAGE_MAINTAINER})
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
# The libraries of the plugin, libpython among them, by dpkg-shlibdeps. The interpreter's modules are python3's, which has to be
# of the same version.
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
math(EXPR next "${Python3_VERSION_MINOR} + 1")
string(JOIN ", " CPACK_DEBIAN_PACKAGE_DEPENDS
	"mosquitto (>= 2.0.11)"
	"python3 (>= 3.${Python3_VERSION_MINOR})"
	"python3 (<< 3.${next})"
	"python3-asgiref (>= 3.4)"
	"python3-django (>= 3:3.2)"
	"python3-django-channels (>= 3.0)"
	"python3-dotenv (>= 0.20)")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "python3-uvloop")
string(JOIN ", " CPACK_DEBIAN_PACKAGE_SUGGESTS
	"mosquitto-clients"
	"python3-argcomplete"
	"python3-channels-redis"
	"python3-paho-mqtt (>= 2.1)"
	"python3-prometheus-client"
	"python3-watchfiles")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${debian}/preinst ${debian}/postinst ${debian}/prerm)
include(CPack)
