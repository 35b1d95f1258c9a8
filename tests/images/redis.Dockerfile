# Debian's own Redis, for tests where no hub is reachable; /data belongs to the user of the official image.
ARG BASE
FROM ${BASE}
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server && rm -rf /var/lib/apt/lists/* \
 && install -d -o 999 -g 999 /data
CMD ["redis-server"]
