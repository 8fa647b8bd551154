/* A server without Python: it loads a SavedModel as TF Serving does and queries it
   from several threads at once.

   client FOLDER THREADS REQUESTS ROWS COLUMNS INPUT OUTPUT INDEX [SEED_INPUT SEED]

   INPUT and OUTPUT name operations of the graph, INDEX the output's. Prints all
   values of an answer as hexadecimals, a line a request; exits with 1 if one fails
   or is not finite. */

#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tensorflow/c/c_api.h>

static TF_Graph *graph;
static TF_Session *session;
static TF_Output inputs[2], output;
static int input_count = 1, requests, rows, columns, failures;
static int64_t seed;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void check(TF_Status *status, const char *what) {
  if (TF_GetCode(status) == TF_OK) return;
  fprintf(stderr, "%s: %s\n", what, TF_Message(status));
  exit(1);
}

static TF_Output find(const char *name, int index) {
  TF_Output found = {TF_GraphOperationByName(graph, name), index};
  if (found.oper == NULL) {
    fprintf(stderr, "no operation %s\n", name);
    exit(1);
  }
  return found;
}

static void *query(void *unused) {
  TF_Status *status = TF_NewStatus();
  for (int k = 0; k < requests; k++) {
    int64_t shape[] = {rows, columns};
    TF_Tensor *values[2], *answer = NULL;
    values[0] = TF_AllocateTensor(TF_FLOAT, shape, 2, sizeof(float) * rows * columns);
    float *x = TF_TensorData(values[0]);
    for (int i = 0; i < rows * columns; i++) x[i] = 1.0f;
    values[1] = TF_AllocateTensor(TF_INT64, NULL, 0, sizeof(int64_t));
    memcpy(TF_TensorData(values[1]), &seed, sizeof(seed));
    TF_SessionRun(session, NULL, inputs, values, input_count, &output, &answer, 1,
                  NULL, 0, NULL, status);
    check(status, "run");
    const float *y = TF_TensorData(answer);
    size_t count = TF_TensorByteSize(answer) / sizeof(float);
    pthread_mutex_lock(&lock);
    failures += TF_Dim(answer, 0) != rows;
    for (size_t i = 0; i < count; i++) {
      failures += !isfinite(y[i]);
      printf("%a ", y[i]);
    }
    printf("\n");
    pthread_mutex_unlock(&lock);
    TF_DeleteTensor(answer);
    TF_DeleteTensor(values[0]);
    TF_DeleteTensor(values[1]);
  }
  TF_DeleteStatus(status);
  return NULL;
}

int main(int argc, char **argv) {
  if (argc != 9 && argc != 11) return 2;
  int threads = atoi(argv[2]);
  requests = atoi(argv[3]);
  rows = atoi(argv[4]);
  columns = atoi(argv[5]);
  const char *tags[] = {"serve"};
  TF_Status *status = TF_NewStatus();
  TF_SessionOptions *options = TF_NewSessionOptions();
  graph = TF_NewGraph();
  session = TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL,
                                         status);
  check(status, "load");
  inputs[0] = find(argv[6], 0);
  output = find(argv[7], atoi(argv[8]));
  if (argc == 11) {
    inputs[1] = find(argv[9], 0);
    input_count = 2;
    seed = atoll(argv[10]);
  }
  pthread_t *workers = malloc(sizeof(pthread_t) * threads);
  for (int k = 0; k < threads; k++) pthread_create(workers + k, NULL, query, NULL);
  for (int k = 0; k < threads; k++) pthread_join(workers[k], NULL);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  return failures != 0;
}
