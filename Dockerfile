# The runtime: CPU, no PyTorch, not root.
#
#   docker build -t mmvideoiq .
#   docker run --rm -v "$PWD:/data" mmvideoiq infer zoo://demo_videoiq_bundle video.mp4
#
# --build-arg EXTRA=serve installs what `mmvideoiq serve` needs (then -p 8000:8000 and serve BUNDLE --host 0.0.0.0),
# EXTRA=bulk what `mmvideoiq bulk` needs.

FROM python:3.11-slim-bookworm AS build
ARG EXTRA=runtime
WORKDIR /source
COPY setup.py pyproject.toml README.md LICENSE requirements.txt model-index.yml ./
COPY configs configs
COPY tools tools
COPY zoo zoo
COPY mmvideoiq mmvideoiq
# without pip in it, and in the tested versions
RUN python -m venv --without-pip /opt/mmvideoiq \
    && pip --python /opt/mmvideoiq/bin/python install --no-cache-dir ".[$EXTRA]" -c requirements.txt

FROM python:3.11-slim-bookworm
RUN useradd --create-home --uid 10001 mmvideoiq
COPY --from=build /opt/mmvideoiq /opt/mmvideoiq
ENV PATH=/opt/mmvideoiq/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
WORKDIR /data
ENTRYPOINT ["mmvideoiq"]
CMD ["--help"]
