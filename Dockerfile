# syntax=docker/dockerfile:1
# The operator's image: one static binary and nothing else. The same without an engine: e2e/image/build.

# The version is that of rust-toolchain.toml; a test compares them.
FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY src src
# Dependencies are compiled once: the caches are kept from build to build, and cargo knows what changed.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked --config .cargo/static.toml --bin graph-backup-operator \
    && mkdir /image \
    && cp target/*-unknown-linux-gnu/release/graph-backup-operator /image/

# No certificates: the only TLS is to the API server, whose CA is in the pod's service account.
FROM scratch
COPY --from=build /image/ /
# By number, so that runAsNonRoot can be checked without a passwd file.
USER 65532:65532
ENTRYPOINT ["/graph-backup-operator"]
