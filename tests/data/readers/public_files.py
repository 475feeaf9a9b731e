"""Small files in the public layout of each data set: its headers, quotes, encodings, line ends and odd cases."""

from pathlib import Path

ASSISTMENTS_2009 = (
    "order_id,assignment_id,user_id,assistment_id,problem_id,original,correct,attempt_count,ms_first_response,tutor_mode,answer_type,"
    "sequence_id,student_class_id,position,type,base_sequence_id,skill_id,skill_name,teacher_id,school_id,hint_count,hint_total,"
    "overlap_time,template_id,answer_id,answer_text,first_action,bottom_hint,opportunity,opportunity_original"
)
ASSISTMENTS_2012 = (
    "problem_log_id,skill,problem_id,user_id,assignment_id,assistment_id,start_time,end_time,problem_type,original,correct,bottom_hint,"
    "hint_count,actions,attempt_count,ms_first_response,tutor_mode,sequence_id,student_class_id,position,type,base_sequence_id,skill_id,"
    "teacher_id,school_id,overlap_time,template_id,answer_id,answer_text,first_action,problemlogid,Average_confidence(FRUSTRATED),"
    "Average_confidence(CONFUSED),Average_confidence(CONCENTRATING),Average_confidence(BORED)"
)
ASSISTMENTS_2017 = (
    "studentId,MiddleSchoolId,InferredGender,SY ASSISTments Usage,AveKnow,AveCarelessness,AveCorrect,NumActions,AveResBored,AveResEngcon,"
    "AveResConf,AveResFrust,AveResOfftask,AveResGaming,action_num,skill,problemId,problemType,assignmentId,assistmentId,startTime,endTime,"
    "timeTaken,correct,original,hint,hintCount,hintTotal,scaffold,bottomHint,attemptCount"
)
KDD_CUP = (
    "Row\tAnon Student Id\tProblem Hierarchy\tProblem Name\tProblem View\tStep Name\tStep Start Time\tFirst Transaction Time\t"
    "Correct Transaction Time\tStep End Time\tStep Duration (sec)\tCorrect Step Duration (sec)\tError Step Duration (sec)\t"
    "Correct First Attempt\tIncorrects\tHints\tCorrects\tKC(Default)\tOpportunity(Default)"
)
ASAP = "\t".join(
    ["essay_id", "essay_set", "essay", "rater1_domain1", "rater2_domain1", "rater3_domain1", "domain1_score", "rater1_domain2"]
    + ["rater2_domain2", "domain2_score"]
    + [f"rater{rater}_trait{trait}" for rater in (1, 2, 3) for trait in range(1, 7)]
)


def record(header: str, separator: str = ",", **values: object) -> str:
    """A line with some values and otherwise empty fields; names with a space are written with a low line."""
    fields = {name.replace(" ", "_").replace("(", "_").replace(")", ""): str(values.get(name, "")) for name in header.split(separator)}
    assert set(values) <= set(fields) | set(header.split(separator)), set(values) - set(fields)
    return separator.join(str(values.get(short, value)) for short, value in fields.items())


def assistments2009(folder: Path) -> Path:
    """Latin-1, and a row for each skill of an attempt; one question without a skill, one pupil at two schools."""
    rows = [  # order, user, problem, original, correct, skill, school, answer
        (33022537, 64525, 51424, 1, 1, 1, 73, "\u00bd caf\u00e9"),
        (35450204, 70363, 51435, 1, 0, 280, 2770, '"a, ""b"""'),
        (35450204, 70363, 51435, 1, 0, 277, 2770, '"a, ""b"""'),
        (35450295, 70363, 51435, 0, 1, 277, 2770, "26"),
        (33139416, 64525, 51425, 1, 0, "", 73, ""),
        (33150000, 64525, 51426, 1, 1, 277, 2770, ""),
        (33100000, 64526, 51424, 1, 1, 1, 73, ""),
        (33100000, 64526, 51424, 1, 1, 277, 73, ""),
        (33100000, 64526, 51424, 1, 1, 280, 73, ""),
    ]
    names = ("order_id", "user_id", "problem_id", "original", "correct", "skill_id", "school_id", "answer_text")
    lines = [record(ASSISTMENTS_2009, tutor_mode="tutor", answer_type="algebra", **dict(zip(names, row, strict=True))) for row in rows]
    (folder / "skill_builder_data.csv").write_bytes("\r\n".join([ASSISTMENTS_2009, *lines, ""]).encode("latin-1"))
    return folder


def assistments2012(folder: Path) -> Path:
    """Partial credit, times with and without fractions of a second, a pupil without a school."""
    rows = [  # log, user, problem, start, correct, skill, school
        (137792159, 61394, 426415, "2012-09-28 15:11:27", 1, 310, 6),
        (137792160, 61394, 426415, "2012-09-28 15:11:17.529", 0, 311, 6),
        (137792160, 61394, 426415, "2012-09-28 15:11:17.529", 0, 310, 6),
        (137792161, 61394, 426416, "2012-09-28 15:12:27", 0.75, 310, 6),
        (137792162, 61395, 426416, "2012-09-28 15:13:27", 1.0, "", 5),
        (137792163, 61396, 426416, "2012-09-28 15:14:27", 1, 310, ""),
    ]
    names = ("problem_log_id", "user_id", "problem_id", "start_time", "correct", "skill_id", "school_id")
    lines = [
        record(ASSISTMENTS_2012, original=1, tutor_mode="tutor", problem_type="algebra", **dict(zip(names, row, strict=True)))
        for row in rows
    ]
    (folder / "2012-2013-data-with-predictions-4-final.csv").write_text("\n".join([ASSISTMENTS_2012, *lines, ""]))
    return folder


def assistments2015(folder: Path) -> Path:
    """Partial credit, rows not in order."""
    lines = ["50121,167478035,7014,0.0", "50121,167478043,7014,1.0", "50121,167478040,7014,0.25", "50122,167478053,7016,1.0"]
    lines += ["50121,167478000,7016,1.0"]
    (folder / "2015_100_skill_builders_main_problems.csv").write_text("\n".join(["user_id,log_id,sequence_id,correct", *lines, ""]))
    return folder


def assistments2017(folder: Path) -> Path:
    """UTF-8 with a byte order mark; a question that is tagged with no skill."""
    rows = [  # student, school, gender, skill, problem, start, correct
        (8, 2, "Male", "properties-of-geometric-figures", 1118, 1096470301, 1),
        (8, 2, "Male", "noskill", 1119, 1096470199, 0),
        (35, 1, "Female", "sum-of-interior-angles-more-than-3-sides", 1118, 1096470350, 0),
        (36, 1, "", "properties-of-geometric-figures", 1118, 1096470360, 1),
    ]
    names = ("studentId", "MiddleSchoolId", "InferredGender", "skill", "problemId", "startTime", "correct")
    lines = [record(ASSISTMENTS_2017, original=1, problemType="textfieldquestion", **dict(zip(names, row, strict=True))) for row in rows]
    path = folder / "anonymized_full_release_competition_dataset.csv"
    path.write_text("\n".join([ASSISTMENTS_2017, *lines, ""]), encoding="utf-8-sig")
    return folder


def ednet_kt1(folder: Path) -> Path:
    """Tags joined by semicolons, -1 for none; an answer that was not given; learners of which u2 comes before u10."""
    (folder / "KT1").mkdir()
    (folder / "contents").mkdir()
    questions = ["question_id,bundle_id,explanation_id,correct_answer,part,tags,deployed_at"]
    questions += ["q1,b1,e1,b,1,1;2;179;181,1558093217098", "q2,b2,e2,a,5,15;2;182,1558093219720", "q3,b2,e2,d,5,-1,-1"]
    (folder / "contents" / "questions.csv").write_text("\n".join([*questions, ""]))
    header = "timestamp,solving_id,question_id,user_answer,elapsed_time"
    answers = {
        "u10": ["1565096190868,1,q2,a,38000", "1565096221062,2,q3,c,24000", "1565096187972,3,q1,,68000"],
        "u2": ["1565096190000,1,q1,b,38000", "1565096290000,2,q1,a,38000"],
    }
    for user, lines in answers.items():
        (folder / "KT1" / f"{user}.csv").write_text("\n".join([header, *lines, ""]))
    return folder


def slp(folder: Path) -> Path:
    """n.a. where missing, concepts joined by semicolons, partial scores, a pupil without a school."""
    unit = ["question_id,exam_id,subject_abbr,concept,student_id,score,full_score,time_access"]
    unit += [
        "Q1,E1,math,c2;c1,S1,2,2,2017-03-01 08:00:00",
        "Q2,E1,math,n.a.,S1,0,3,2017-03-01 08:05:00",
        "Q2,E1,math,c1,S2,1.5,3,2017-03-01 08:05:00",
    ]
    term = ["question_id,exam_id,subject_abbr,concept,student_id,score,full_score,time_access"]
    term += [
        "Q3,E2,math,c3,S2,5,5,2017-02-01 08:00:00",
        "Q3,E2,math,c3,S1,n.a.,5,2017-02-01 08:00:00",
        "Q3,E2,math,c3,S3,5,5,2017-02-01 08:00:00",
    ]
    files = {
        "unit-math.csv": unit,
        "term-math.csv": term,
        "student.csv": ["student_id,gender,school_id,class_id", "S1,F,A,C1", "S2,M,B,C1", "S3,M,n.a.,n.a."],
        "school.csv": ["school_id,school_type,dist_to_downtown", "A,public,3.5", "B,private,n.a."],
    }
    for name, lines in files.items():
        (folder / name).write_text("\n".join([*lines, ""]))
    return folder


def kdd_cup(folder: Path) -> Path:
    """Tabs and bare quotes, knowledge components joined by ~~, a step without an answer."""
    rows = [  # row, student, problem, view, step, time, correct, components
        (
            1,
            "0BrbPbwCMz",
            "EG4-FIXED",
            1,
            "3(x+2) = 15",
            "2005-09-09 12:24:35.0",
            1,
            "[SkillRule: Eliminate Parens; {CLT nested}]~~[Distribute]",
        ),
        (2, "0BrbPbwCMz", "EG4-FIXED", 1, 'x+2 = "5"', "2005-09-09 12:24:30.0", 0, "Distribute~~[Distribute]"),
        (3, "0BrbPbwCMz", "EG40", 2, "-x = -3", "2005-09-09 12:25:15.0", 0, ""),
        (4, "Qq1", "EG40", 1, "-x = -3", "2005-09-09 12:25:15.0", "", "[Distribute]"),
        (5, "Qq1", "EG40", 2, "-x = -3", "2005-09-09 12:26:15.0", 1, "[Distribute]"),
    ]
    names = (
        "Row",
        "Anon Student Id",
        "Problem Name",
        "Problem View",
        "Step Name",
        "First Transaction Time",
        "Correct First Attempt",
        "KC(Default)",
    )
    common = {"Problem Hierarchy": "Unit ES_04, Section ES_04-1"}
    lines = [record(KDD_CUP, "\t", **common, **dict(zip(names, row, strict=True))) for row in rows]
    path = folder / "algebra_2005_2006_train.txt"
    path.write_text("\n".join([KDD_CUP, *lines, ""]))
    return path


def asap(folder: Path) -> Path:
    """Windows-1252, tabs, doubled quotes inside quotes, a quote that never ends, a second domain in prompt 2, prompts with own scales."""
    rows = [
        {
            "essay_id": 2,
            "essay_set": 1,
            "essay": '"Dear @CAPS1 @CAPS2, it\u2019s ""great"""',
            "rater1_domain1": 5,
            "rater2_domain1": 4,
            "domain1_score": 9,
        },
        {
            "essay_id": 1,
            "essay_set": 1,
            "essay": '"Dear local newspaper, caf\u00e9"',
            "rater1_domain1": 4,
            "rater2_domain1": 4,
            "domain1_score": 8,
        },
        {
            "essay_id": 2978,
            "essay_set": 2,
            "essay": '"Books" on the shelves, "I say',
            "rater1_domain1": 4,
            "rater2_domain1": 4,
            "domain1_score": 4,
            "domain2_score": 3,
        },
        {"essay_id": 20716, "essay_set": 8, "essay": '"A long" "essay"', "rater1_domain1": 17, "domain1_score": 34, "rater1_trait1": 3},
    ]
    lines = [record(ASAP, "\t", **row) for row in rows]
    (folder / "training_set_rel3.tsv").write_bytes("\r\n".join([ASAP, *lines, ""]).encode("cp1252"))
    return folder


def pisa(folder: Path) -> Path:
    """The student file of two countries that number schools alike, and the school file; missing values as SAS and R write them."""
    draws = [f"PV{draw}{subject}" for subject in ("MATH", "READ", "SCIE") for draw in range(1, 11)]
    students = [",".join(["CNTRYID", "CNT", "CNTSCHID", "CNTSTUID", "ST004D01T", "AGE", "ESCS", "IMMIG", "W_FSTUWT", *draws])]
    for number, (country, school, sex, escs) in enumerate([("ALB", 800002, 1, "-0.5"), ("ALB", 800001, 2, ".M"), ("DEU", 800001, 1, "NA")]):
        values = [str(400 + 100 * number + draw) for draw in range(len(draws))]
        students.append(
            ",".join(["8", country, str(school), str(800251 + number), str(sex), "15.58", escs, "", f"{number + 1}.25", *values])
        )
    schools = ["CNTRYID,CNT,CNTSCHID,SCHLTYPE,STRATIO,SCHSIZE", "8,ALB,800001,3,11.5,600", "276,DEU,800001,1,12.5,700"]
    (folder / "CY08MSP_STU_QQQ.CSV").write_text("\n".join([*students, ""]))
    (folder / "CY08MSP_SCH_QQQ.CSV").write_text("\n".join([*schools, ""]))
    return folder


def oulad(folder: Path) -> Path:
    """Quoted fields, ? and nothing where missing, clicks before the start and after the cut, a transferred score, two presentations."""
    tables = {
        "courses.csv": ["code_module,code_presentation,module_presentation_length", "AAA,2013J,268", "BBB,2014B,234"],
        "assessments.csv": ["code_module,code_presentation,id_assessment,assessment_type,date,weight"]
        + ["AAA,2013J,1752,TMA,19,10", "AAA,2013J,1757,Exam,,100", "BBB,2014B,14991,TMA,54,10"],
        "vle.csv": ["id_site,code_module,code_presentation,activity_type,week_from,week_to"]
        + ["546943,AAA,2013J,resource,?,?", "546712,AAA,2013J,forumng,?,?", "546998,BBB,2014B,homepage,1,2"],
        "studentInfo.csv": [
            "code_module,code_presentation,id_student,gender,region,highest_education,imd_band,age_band,num_of_prev_attempts,studied_credits,"
            "disability,final_result",
            "AAA,2013J,28400,F,Scotland,HE Qualification,20-30%,35-55,0,60,N,Pass",
            "AAA,2013J,11391,M,East Anglian Region,HE Qualification,90-100%,55<=,0,240,N,Withdrawn",
            "AAA,2013J,30268,F,Scotland,A Level or Equivalent,?,0-35,0,60,Y,Fail",
            "BBB,2014B,28400,F,Scotland,HE Qualification,20-30%,35-55,1,60,N,Distinction",
        ],
        "studentRegistration.csv": ["code_module,code_presentation,id_student,date_registration,date_unregistration"]
        + ["AAA,2013J,11391,-159,12", "AAA,2013J,28400,-53,?", "AAA,2013J,30268,40,?", "BBB,2014B,28400,?,?"],
        "studentAssessment.csv": ["id_assessment,id_student,date_submitted,is_banked,score"]
        + ["1752,28400,22,0,70", "1757,28400,230,0,80", "1752,11391,18,0,?", "14991,28400,-1,1,50", "14991,28400,60,0,91"],
        "studentVle.csv": ["code_module,code_presentation,id_student,id_site,date,sum_click"]
        + ["AAA,2013J,28400,546943,-10,4", "AAA,2013J,28400,546943,27,3", "AAA,2013J,28400,546943,28,100", "AAA,2013J,28400,546712,0,5"]
        + ["BBB,2014B,28400,546998,3,9"],
    }
    for name, lines in tables.items():
        quoted = [",".join(f'"{field}"' for field in line.split(",")) for line in lines]
        (folder / name).write_text("\n".join([*quoted, ""]))
    return folder
