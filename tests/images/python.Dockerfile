# Debian's own Python where no hub is reachable; .ci/engine gives the root file system and the host's CAs.
FROM scratch
ADD rootfs.tar /
COPY host-ca.crt /etc/ssl/host-ca.crt
ENV PIP_CERT=/etc/ssl/host-ca.crt SSL_CERT_FILE=/etc/ssl/host-ca.crt REQUESTS_CA_BUNDLE=/etc/ssl/host-ca.crt
CMD ["python3"]
