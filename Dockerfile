# Broker, tools and benchmark in one image of the one binary:
#
#   docker build -t highwater .
#   docker run -d --read-only -v highwater-data:/var/lib/highwater -p 127.0.0.1:7171:7171 highwater
#
# PROFILE is a Cargo profile: `dist` is what is shipped, `dev` compiles fastest.

ARG PROFILE=dist

# The dependencies alone, so that a change of our own sources does not compile them again.
FROM rust:1.95-bookworm AS dependencies
ARG PROFILE
ENV CARGO_INCREMENTAL=0
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY protocol/Cargo.toml protocol/
COPY storage/Cargo.toml storage/
COPY coordination/Cargo.toml coordination/
COPY config/Cargo.toml config/
COPY client/Cargo.toml client/
COPY broker/Cargo.toml broker/
COPY verify/Cargo.toml verify/
COPY cli/Cargo.toml cli/
COPY tests/Cargo.toml tests/
COPY tests/simulation/Cargo.toml tests/simulation/
COPY benches/Cargo.toml benches/
# Cargo wants every member of the workspace with a source, even those that are not built here.
RUN for member in */ tests/simulation/; do mkdir "$member/src" && echo '//! Empty.' >"$member/src/lib.rs"; done \
    && printf '//! Empty.\nfn main() {}\n' >cli/src/main.rs \
    && mkdir benches/benches \
    && sed -n 's|^name = "\(.*\)"$|benches/benches/\1.rs|p' benches/Cargo.toml | xargs touch \
    && cargo build --profile "$PROFILE" --locked --package highwater \
    && rm -r */src tests/simulation/src

FROM dependencies AS build
ARG PROFILE
LABEL org.opencontainers.image.title=highwater
COPY protocol protocol
COPY storage storage
COPY coordination coordination
COPY config config
COPY client client
COPY broker broker
COPY verify verify
COPY cli cli
# Cargo goes by times, and those of the sources are older than those of the empty ones above.
RUN for member in tests tests/simulation benches; do mkdir -p $member/src && touch $member/src/lib.rs; done \
    && find . -path ./target -prune -o -name '*.rs' -exec touch {} + \
    && cargo build --profile "$PROFILE" --locked --package highwater \
    && cp target/*/highwater /usr/local/bin/

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title=highwater \
      org.opencontainers.image.description="An append-only distributed log broker" \
      org.opencontainers.image.licenses=Apache-2.0
# A fixed number, so that files on a host or in a network file system can be given to it.
RUN groupadd --gid 7171 highwater \
    && useradd --uid 7171 --gid highwater --no-create-home --home-dir /var/lib/highwater \
               --shell /usr/sbin/nologin highwater \
    && install -d -o highwater -g highwater -m 0750 /var/lib/highwater
COPY --from=build /usr/local/bin/highwater /usr/local/bin/
# In a container the loopback address reaches nobody; what is published on the host decides who may
# connect. Neither port has authentication.
ENV HIGHWATER_DATA_DIR=/var/lib/highwater \
    HIGHWATER_LISTEN=0.0.0.0:7171 \
    HIGHWATER_ADMIN_LISTEN=0.0.0.0:7180
USER 7171:7171
WORKDIR /var/lib/highwater
VOLUME /var/lib/highwater
EXPOSE 7171 7180
# The start period is for the recovery of large logs after a crash: until it is over, an unready
# broker is "starting", not "unhealthy".
HEALTHCHECK --interval=5s --timeout=5s --start-period=2m --retries=3 CMD ["highwater", "health"]
# No shell in between: SIGTERM reaches the broker, which hands over, flushes and ends.
CMD ["highwater", "broker"]
