# shellcheck shell=bash
# scripts/guest.bash -- virtual machines that run programs of this tree: a kernel, and an archive in memory with busybox, the programs
# and the libraries that they need. To be sourced; $work is the folder of kernels and archives.
#
# Nothing is installed on this machine and a guest has no network. The processor is emulated, since virtual machines rarely
# nest: slow, the same result. KVM=1 in the environment uses /dev/kvm.
: "${work:?the folder of kernels}"

# apt_of SUITE APT-ARGUMENT...: apt with lists of its own, of that Debian release.
apt_of() {
    local suite=$1 dir=$work/apt-$1
    shift
    mkdir -p "$dir"/{state/lists/partial,cache/archives/partial}
    local keys=/usr/share/keyrings/debian-archive-keyring.gpg
    printf 'deb [signed-by=%s] http://deb.debian.org/debian %s main\n' "$keys" "$suite" >"$dir/sources.list"
    [[ $suite == *-backports ]] || # these come without
        printf 'deb [signed-by=%s] http://deb.debian.org/debian-security %s main\n' "$keys" "$suite-security" >>"$dir/sources.list"
    "$@" -o "Dir::State=$dir/state" -o Dir::State::status=/dev/null -o "Dir::Cache=$dir/cache" \
        -o "Dir::Etc::sourcelist=$dir/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
        -o APT::Sandbox::User=root
}

# debian_kernel VERSION SUITE: unpacks the newest kernel of that release below $work/VERSION.
debian_kernel() {
    local version=$1 suite=$2 package dir=$work/$1
    compgen -G "$dir/boot/vmlinuz-*" >/dev/null && return
    echo "kernels: downloading the kernel of Debian $suite"
    apt_of "$suite" apt-get -q update >"$work/apt.log" 2>&1 || { cat "$work/apt.log" >&2; return 1; }
    package=$(apt_of "$suite" apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p')
    (cd "$work" && rm -f ./linux-image-"$version".*.deb &&
        apt_of "$suite" apt-get -q download "$package" >"$work/apt.log" 2>&1) || { cat "$work/apt.log" >&2; return 1; }
    mkdir -p "$dir"
    dpkg-deb -x "$work"/linux-image-"$version".*.deb "$dir"
}

# pinned_kernel VERSION [SHA256 URL]...: packages of a release whose keys Debian does not have.
pinned_kernel() {
    local version=$1 dir=$work/$1
    shift
    [[ ! -e $dir/whole ]] || return 0
    mkdir -p "$dir"
    while (($#)); do
        echo "kernels: downloading $2"
        curl -sSf -o "$work/$version.deb" "$2" || return 1
        sha256sum --quiet --check <<<"$1  $work/$version.deb" || return 1
        dpkg-deb -x "$work/$version.deb" "$dir" || return 1
        shift 2
    done
    touch "$dir/whole"
}

# guest_kernel NAME: fetches the kernel 6.12, 6.1, 5.15 (Ubuntu 22.04's for virtual machines) or 5.10 and prints the path of its image.
guest_kernel() {
    case $1 in
        6.12) debian_kernel 6.12 bookworm-backports >&2 ;;
        6.1) debian_kernel 6.1 bookworm >&2 ;;
        5.15) pinned_kernel 5.15 9d5c29b166820bc413d54ff17327ebfcefe01eafb0f7fc6d0ecd4cc683e73dbc \
            http://archive.ubuntu.com/ubuntu/pool/main/l/linux-signed-kvm/linux-image-5.15.0-1004-kvm_5.15.0-1004.4_amd64.deb \
            1d43f0d0435c3a786b9c56c7d0c71ab9fda73b38d144dbe136261d44afd2fe69 \
            http://archive.ubuntu.com/ubuntu/pool/main/l/linux-kvm/linux-modules-5.15.0-1004-kvm_5.15.0-1004.4_amd64.deb >&2 ;;
        5.10) debian_kernel 5.10 bullseye >&2 ;;
        *) return 2 ;;
    esac && compgen -G "$work/$1/boot/vmlinuz-*"
}

# guest_root ROOT INIT PROGRAM...: a folder that the guest starts from: INIT is its first process, the programs are in /programs.
guest_root() {
    local root=$1 init=$2 library
    shift 2
    rm -rf "$root"
    mkdir -p "$root"/{bin,programs,etc}
    cp /bin/busybox "$root/bin/busybox"
    ln -s busybox "$root/bin/sh"
    cp "$init" "$root/init"
    printf 'root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n' >"$root/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
    cp "$@" "$root/programs/"
    while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -L "$library" "$root$library"
    done < <(ldd "$@" | sed -n 's,^[[:space:]].*[[:space:]]\(/[^ ]*\) (0x.*,\1,p; s,^[[:space:]]\(/[^ ]*\) (0x.*,\1,p' | sort -u)
}

# guest_archive ROOT ARCHIVE
guest_archive() {
    (cd "$1" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$2"
}

# run_guest IMAGE ARCHIVE CONSOLE MEMORY: until it powers off or $TIMEOUT seconds have passed. All it says is in the file CONSOLE; lines that
# begin with GUEST or RESULT are printed as they come.
run_guest() {
    # QEMU 7.2 gets cmpxchg16b wrong, which newer kernels allocate memory with
    local accelerate=(-accel tcg -cpu 'max,cx16=off')
    [[ -z ${KVM:-} ]] || accelerate=(-accel kvm -cpu host)
    # no_timer_check: on a busy machine an emulated timer may seem not to work, and what is done then takes the console's interrupts along
    timeout "${TIMEOUT:-3000}" qemu-system-x86_64 "${accelerate[@]}" -m "$4" -smp 2 -nographic -no-reboot -nic none \
        -kernel "$1" -initrd "$2" -append 'console=ttyS0 panic=-1 quiet no_timer_check rdinit=/init' \
        </dev/null 2>&1 | sed -u 's,\r,,' | tee "$3" | grep --line-buffered -aE '^(GUEST|RESULT)' || true
}
