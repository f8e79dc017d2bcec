/* questions: a file of multiple-choice questions, in memory and as tokens. */
#ifndef VAR_QUESTIONS_H
#define VAR_QUESTIONS_H

#include "variants/variants.h"

enum { VAR_MAX_CHOICES = 32 };

struct var_choice {
    const char *text;  /* what continues the prompt, leading blank included */
    size_t characters; /* Unicode characters of it without leading blanks, at least 1 */
};

struct var_question {
    const char *id, *prompt;
    uint32_t n_choices, gold; /* gold < n_choices */
    struct var_choice choices[VAR_MAX_CHOICES];
};

struct var_questions {
    json_t *document; /* holds the texts */
    uint32_t n;
    struct var_question *questions; /* [n] */
};

/* Reads a file as docs/quality.md describes it; at most max_questions (0 = all). Errors name the
 * file and the entry. Release in any case. */
int var_questions_read(struct var_questions *set, const char *path, uint32_t max_questions,
                       struct ert_error *err);
void var_questions_release(struct var_questions *set);

/* Prompt and one choice as tokens ids[n], of which the last n - n_prompt are the choice: encoded
 * together, and cut where the prompt alone ends; blanks at its end go to the choice. So does
 * EleutherAI's lm-evaluation-harness (api/model.py, _encode_pair). ids is the caller's to free. */
struct var_answer_tokens {
    int32_t *ids;
    uint32_t n, n_prompt;
};
int var_question_encode(struct var_answer_tokens *tokens, const struct rt_tokenizer *tokenizer,
                        const struct var_question *question, uint32_t choice,
                        struct ert_error *err);

#endif
