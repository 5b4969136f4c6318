# shellcheck shell=bash
# guest/debian/lib.sh: what the scripts that make guest material share: the cache, module closures, and staging trees.
#
# Sourced by guest/debian/{fetch,initrd,disk} and by tests/rig; runs nothing by itself. A caller sets `me` first:
# the name that stands before its messages.

die() {
	printf '%s: %s\n' "${me:-guest/debian}" "$*" >&2
	exit 1
}

need() {
	local program
	for program in "$@"; do
		[[ -n $(PATH=$PATH:/usr/sbin:/sbin type -P "$program") ]] || die "$program is not installed: run sudo tests/setup"
	done
}

cache_dir() {
	printf '%s\n' "${BULKHEAD_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/bulkhead}"
}

# A third of a vmlinux is zeros, and the monitor reads no holes. It looks for none below 64 KiB.
dig_holes() {
	dd of="$1" bs=64K iflag=fullblock conv=sparse status=none
}

# The modules NAME... of the kernel in folder $1 with all that they depend on, as files in load order, each once.
# A name with a leading ? may be absent, or be built in; any other name may only be built in.
module_files() {
	local kernel=$1 version name out line
	shift
	version=$(<"$kernel/version")
	local -A seen=()
	for name in "$@"; do
		# No configuration of this host (blacklists, install commands) may decide what a guest gets.
		if ! out=$(PATH=$PATH:/usr/sbin:/sbin modprobe -C /dev/null -d "$kernel" -S "$version" \
			--show-depends "${name#\?}" 2>&1); then
			[[ $name == \?* ]] && continue
			die "kernel $version has no module $name"
		fi
		while read -r line; do
			[[ $line == "insmod "* ]] || continue
			line=${line#insmod }
			line=${line%% *}
			[[ -v seen[$line] ]] && continue
			seen[$line]=1
			printf '%s\n' "$line"
		done <<<"$out"
	done
}

# Puts modules into $1/lib/modules, flat and uncompressed, with their load order in $1/lib/modules/load.
stage_modules() {
	local root=$1 kernel=$2 file name list
	shift 2
	list=$(module_files "$kernel" "$@")
	mkdir -p "$root/lib/modules"
	: >"$root/lib/modules/load"
	while read -r file; do
		[[ -n $file ]] || continue
		name=${file##*/}
		case $name in
		*.ko) cp "$file" "$root/lib/modules/$name" ;;
		*.ko.xz) name=${name%.xz} && xz -dc "$file" >"$root/lib/modules/$name" ;;
		*.ko.zst) name=${name%.zst} && zstd -qdc "$file" >"$root/lib/modules/$name" ;;
		*) die "$file: unknown kind of module file" ;;
		esac
		printf '%s\n' "$name" >>"$root/lib/modules/load"
	done <<<"$list"
}

# A root with a static busybox, a link for each of its applets, and the few files that programs look for.
stage_busybox() {
	local root=$1 busybox
	busybox=$(type -P busybox) || die 'busybox is not installed: run sudo tests/setup'
	if ldd "$busybox" >/dev/null 2>&1; then
		die "$busybox is not static: install the package busybox-static (sudo tests/setup)"
	fi
	mkdir -p "$root"/{bin,dev,etc,lib,mnt,proc,root,run,sys,tmp,var}
	ln -s bin "$root/sbin"
	ln -s lib "$root/lib64"
	mkdir -p "$root/usr"
	ln -s ../bin "$root/usr/bin"
	ln -s ../bin "$root/usr/sbin"
	ln -s ../lib "$root/usr/lib"
	cp "$busybox" "$root/bin/busybox"
	# The links lead to where this host has its busybox; both places of the guest are the same folder.
	"$busybox" --install -s "$root/bin"
	ln -sf busybox "$root/bin/sh"
	printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n' >"$root/etc/passwd"
	printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
	printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
	ln -s ../proc/mounts "$root/etc/mtab"
}

# stage_file ROOT HOSTFILE:GUESTPATH: a file or a folder; a dynamic program brings its libraries and its loader.
stage_file() {
	local root=$1 from=${2%%:*} to=${2#*:} library
	[[ $2 == *:/* ]] || die "--add $2: must be HOSTFILE:/GUESTPATH"
	[[ -e $from ]] || die "--add $2: $from does not exist"
	mkdir -p "$root${to%/*}"
	if [[ -d $from ]]; then
		cp -a "$from" "$root$to"
		return
	fi
	# A link to busybox of the same name must be replaced, never written through.
	rm -f "$root$to"
	cp -L "$from" "$root$to"
	[[ $(head -c 4 "$from" | tail -c 3) == ELF ]] || return 0
	while read -r library; do
		[[ -e $root$library ]] && continue
		mkdir -p "$root${library%/*}"
		cp -L "$library" "$root$library"
	done < <(ldd "$from" 2>/dev/null | sed -n 's/^.*[[:space:]]\(\/[^ ]*\) (0x.*$/\1/p')
}

# Packs the tree $1 into the uncompressed newc archive $2; the same tree gives the same bytes.
pack_cpio() {
	local root=$1 out=$2
	find "$root" -depth -exec touch -h -d @0 {} +
	(cd "$root" && find . -mindepth 1 -print0 | LC_ALL=C sort -z |
		cpio -0 -o -H newc -R 0:0 --reproducible --quiet) >"$out"
}

# This machine's own package sources of Debian 12, a line each, for mmdebstrap.
package_sources() {
	# shellcheck disable=SC2016 # apt's own variables
	apt-get indextargets --format 'deb $(SITE) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
		grep -E ' bookworm(-updates|-security)? main$' | sort -u ||
		die "this machine's apt knows no source of Debian 12 (bookworm)"
}

# debian_root OUT VARIANT PACKAGES [OPTION...]: a root of Debian 12 as a tar file, by mmdebstrap with more OPTIONs of it,
# without what no server reads (licences stay). Needs no root. SOURCE_DATE_EPOCH is the caller's.
# The hook has /bin and its like as links from the start: the package that would merge them brings 47 MB of Perl.
debian_root() {
	local out=$1 variant=$2 packages=$3 mode=root
	shift 3
	((EUID == 0)) || mode=unshare
	# Packages and hooks talk a lot, and are heard when something fails.
	# shellcheck disable=SC2016 # for the shell of the hooks
	package_sources | mmdebstrap --quiet --mode="$mode" --variant="$variant" --include="$packages" \
		--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
		--aptopt='APT::Install-Recommends "false"' \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
		--dpkgopt=path-exclude=/usr/share/{man,info,locale,i18n,lintian,bug,bash-completion,zsh,fish}/\* \
		--customize-hook='rm -rf "$1"/var/log/* "$1"/var/cache/* "$1"/etc/machine-id "$1"/var/lib/dbus/machine-id' \
		--customize-hook='rm -f "$1"/etc/resolv.conf "$1"/etc/hostname' "$@" bookworm "$out" - >"$out.log" 2>&1 ||
		die "mmdebstrap: $(tail -n 20 "$out.log")"
}
