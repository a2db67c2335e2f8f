"""What a model uses: attention maps, attribution, faithfulness, probes and interventions, each beside its control.

All of it stands on the models' own `call`, whose `tap` sees and may replace what is computed inside
(`course_lib.layers.taps`).
"""

from course_lib.interpretability.attention import attention_maps, attention_rollout, gradient_rollout
from course_lib.interpretability.attribution import (
    attention_attribution,
    gradient_x_input,
    integrated_gradients,
    occlusion,
    random_attribution,
)
from course_lib.interpretability.causal import (
    ablate,
    activation_patching,
    direct_logit_attribution,
    induction_scores,
    logit_lens,
)
from course_lib.interpretability.faithfulness import (
    comprehensiveness,
    deletion_curve,
    insertion_curve,
    shuffled_weights,
    sufficiency,
)
from course_lib.interpretability.probes import control_labels, linear_probe
from course_lib.interpretability.questions import Question
from course_lib.interpretability.recording import hidden_states, record
from course_lib.interpretability.viewer import view_attention

__all__ = [
    "Question",
    "ablate",
    "activation_patching",
    "attention_attribution",
    "attention_maps",
    "attention_rollout",
    "comprehensiveness",
    "control_labels",
    "deletion_curve",
    "direct_logit_attribution",
    "gradient_rollout",
    "gradient_x_input",
    "hidden_states",
    "induction_scores",
    "insertion_curve",
    "integrated_gradients",
    "linear_probe",
    "logit_lens",
    "occlusion",
    "random_attribution",
    "record",
    "shuffled_weights",
    "sufficiency",
    "view_attention",
]
