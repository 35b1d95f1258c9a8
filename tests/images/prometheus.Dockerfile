# Debian's own Prometheus, for tests where no hub is reachable; /prometheus belongs to the user of the official image.
ARG BASE
FROM ${BASE}
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends prometheus && rm -rf /var/lib/apt/lists/* \
 && install -d -o 65534 -g 65534 /prometheus
ENTRYPOINT ["prometheus"]
