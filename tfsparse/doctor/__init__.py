"""Why is my file not smaller? Why is it not faster? What should I train?"""

from tfsparse.doctor.diagnosis import Diagnosis, doctor
from tfsparse.doctor.planning import Plan, plan

__all__ = ["Diagnosis", "Plan", "doctor", "plan"]
