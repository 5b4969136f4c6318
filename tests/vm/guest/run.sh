#!/bin/sh
# The guest's side of the tests of real guests: runs the script that the kernel command line names with test=NAME.
# Each check prints one line, "CHECK ok WHAT" or "CHECK fail WHAT: WHY", which the host reads from the console.
arg() { # the value of NAME= on the kernel command line, or else $2
	# shellcheck disable=SC2013 # words are what is wanted
	for word in $(cat /proc/cmdline); do
		case $word in "$1"=*) echo "${word#*=}" && return ;; esac
	done
	echo "$2"
}

check() { # WHAT COMMAND...
	what=$1
	shift
	if "$@" >/tmp/out 2>&1; then
		echo "CHECK ok $what"
	else
		echo "CHECK fail $what: $(tr '\n' ' ' </tmp/out | cut -c1-300)"
	fi
}

network_up() {
	ip addr add 10.9.0.2/24 dev eth0 && ip link set eth0 up
}

# shellcheck source=/dev/null
. "/tests/$(arg test none).sh"
