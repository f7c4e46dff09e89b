# An image of the locked libraries, for CPUs (docs/running.md). TPU VMs have their
# own images (docs/cloud_tpu.md).
FROM python:3.10-slim-bookworm
RUN useradd --uid=1000 --create-home user
WORKDIR /home/user/hypergrid_mtf
COPY requirements.txt ./
RUN python -m pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes -r requirements.txt
COPY README.md LICENSE pyproject.toml ./
COPY hypergrid_mtf hypergrid_mtf
COPY operative_configs operative_configs
COPY t5_tasks t5_tasks
COPY tools tools
RUN mkdir runs && chown user runs
USER 1000
ENTRYPOINT ["python", "-m"]
CMD ["tools"]
