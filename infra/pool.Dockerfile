# The image of a worker pool (infra/pool.tf). Add here what your handlers need beside requirements.txt, such as CUDA.
FROM python:3.13.11-slim-bookworm
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir --root-user-action=ignore -r requirements.txt
COPY functions functions
ENV PYTHONUNBUFFERED=1
CMD ["python", "-m", "functions.entry.pool"]
